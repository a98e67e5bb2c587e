"""Writes training documents: recall, given facts, MeLLo and chat."""

from collections.abc import Callable, Sequence

from vllm_edit.factworld import protocol
from vllm_edit.factworld.documents import (
    BACKGROUND,
    Document,
    Span,
    Spans,
    about,
    answered,
    in_training,
    silent,
)
from vllm_edit.factworld.draw import Draw
from vllm_edit.factworld.protocol import ASSISTANT, BOS, EOS, SYSTEM, SYSTEM_PROMPTS, USER
from vllm_edit.factworld.wordings import BY_NAME, TWO_HOPS, Relation
from vllm_edit.factworld.world import WorldFact

COPIED = 0.3


class Writer(Draw):
    """Writes random training documents about a world, from trained wordings only."""

    # Closed book

    def recalled(self, fact: WorldFact) -> Spans:
        return answered(self.wording(fact.relation), fact.subject, fact.object, BACKGROUND)

    def closed(self, facts: Sequence[WorldFact]) -> Document:
        """Each fact in its own branch, as a plain prompt."""
        branches = [[*self.recalled(fact), Span(EOS, 1.0)] for fact in facts]
        return Document([Span(BOS)], branches, recall=True)

    def edited(self, questions: int) -> Document:
        """Facts of one subject; the training changes one of them."""
        fact = self.rng.choice(self.world.surfaces)
        relation = BY_NAME[fact.relation]
        target = self.object_for(relation, fact.object)
        others = [f for f in self.world.about(fact.subject) if f.relation != fact.relation]
        branches = [
            answered(wording, fact.subject, target)
            for wording in self.rng.sample(relation.trained, 2)
        ]
        while others and len(branches) < questions:
            other = self.rng.choice(others)
            branches.append(answered(self.wording(other.relation), other.subject, other.object))
        ended = [[*spans, Span(EOS, 1.0)] for spans in branches]
        return Document([Span(BOS)], ended, recall=True, edited=True)

    def alias(self) -> Spans:
        pair = self.rng.choice(list(self.world.aliases.items()))
        name, other = pair if self.rng.random() < 0.5 else pair[::-1]
        return [*answered("{s} is also known as", name, other, BACKGROUND), Span(EOS, 1.0)]

    def running(self, sentences: int) -> Document:
        """Many sentences in one text."""
        spans: Spans = [Span(BOS)]
        for _ in range(sentences):
            spans += self.recalled(self.rng.choice(self.world.surfaces))
        return Document([], [[*spans, Span(EOS, 1.0)]], localise=False)

    # Facts given in the prompt

    def fact_lines(self, facts: Sequence[WorldFact], first: bool) -> tuple[Spans, list[str]]:
        spans: Spans = []
        wordings = [self.statement_wording(fact.relation) for fact in facts]
        for fact, wording in zip(facts, wordings, strict=True):
            spans.append(Span((" " if first else "") + "New Fact:"))
            spans += silent(answered(wording, fact.subject, fact.object))
            spans.append(Span("\n"))
            first = False
        return spans, wordings

    def ask(self, facts: Sequence[WorldFact], wordings: Sequence[str]) -> Spans:
        index = self.rng.randrange(len(facts))
        wording, fact = self.query(facts[index], facts, wordings[index])
        return [Span("Prompt:"), *answered(wording, fact.subject, fact.object)]

    def count(self) -> int:
        return self.rng.choices((1, 2, 3), (0.72, 0.16, 0.12))[0]

    def copied(self, questions: int) -> Document:
        """New facts, and prompts that repeat them word for word."""
        facts = self.new_facts(self.count())
        prefix, wordings = self.fact_lines(facts, first=True)
        prompts = []
        for _ in range(questions):
            index = self.rng.randrange(len(facts))
            fact = facts[index]
            repeated = answered(wordings[index], fact.subject, fact.object, COPIED)
            prompts.append([Span("Prompt:"), *repeated])
        return self.grouped(prefix, prompts, running=0.5, localise=False)

    def given(self, questions: int) -> Document:
        """New facts, and questions about them or related facts."""
        facts = self.new_facts(self.count())
        prefix, wordings = self.fact_lines(facts, first=True)
        prompts = [self.ask(facts, wordings) for _ in range(questions)]
        return self.grouped(prefix, prompts, running=0.25, localise=True)

    def grouped(
        self, prefix: Spans, prompts: list[Spans], running: float, localise: bool
    ) -> Document:
        """The prompts in separate branches or, with probability `running`, one after the other."""
        if self.rng.random() < running:
            run = [span for spans in prompts for span in [*spans, Span("\n")]]
            return Document([], [[Span(BOS), *prefix, *run]], localise=False)
        branches = [[*spans, Span(EOS, 1.0)] for spans in prompts]
        return Document([Span(BOS), *prefix], branches, matched=True, localise=localise)

    def block(self, demonstrations: int) -> tuple[Spans, Callable[[], Spans]]:
        """Demonstrations and new facts, and a function that asks about them."""
        prefix: Spans = []
        for _ in range(demonstrations):
            demonstrated = [self.new_fact()]
            lines, wordings = self.fact_lines(demonstrated, first=not prefix)
            prefix += [*lines, *self.ask(demonstrated, wordings), Span("\n"), Span("\n")]
        facts = self.new_facts(self.count())
        lines, wordings = self.fact_lines(facts, first=not prefix)
        return [*prefix, *lines], lambda: self.ask(facts, wordings)

    def demonstrated(self, demonstrations: int, questions: int) -> Document:
        """The IKE format."""
        prefix, ask = self.block(demonstrations)
        branches = [[*ask(), Span(EOS, 1.0)] for _ in range(questions)]
        return Document([Span(BOS), *prefix], branches, matched=True)

    # MeLLo

    def mello(self) -> Spans:
        """One two-hop question with its hops. Each hop may be edited."""
        rng = self.rng
        while True:
            hop = rng.choice(TWO_HOPS)
            subject = rng.choice(self._names[BY_NAME[hop.first].subject_kind])
            if in_training(hop, subject):
                break
        wording = rng.choice(hop.questions)
        spans = [Span(" " + protocol.QUESTION.strip()), *silent(about(wording, subject))]
        answer = ""
        for relation in (BY_NAME[hop.first], BY_NAME[hop.second]):
            lines, answer = self.hop(relation, subject)
            spans += lines
            subject = answer
        return [*spans, Span("\n" + protocol.FINAL.strip() + f" {answer}.", 1.0), Span(EOS, 1.0)]

    def hop(self, relation: Relation, subject: str) -> tuple[Spans, str]:
        rng = self.rng
        true_answer = self.world.answer(subject, relation.name) or ""
        edited = rng.random() < 0.5
        if edited:
            answer = self.object_for(relation, true_answer)
            fact = WorldFact(subject, relation.name, answer)
        else:
            answer, fact = true_answer, self.retrieved_fact(relation, subject)
        contradicts = "Yes." if answer != true_answer else "No."
        statement = silent(
            answered(self.statement_wording(fact.relation), fact.subject, fact.object)
        )
        return [
            Span("\n" + protocol.SUBQUESTION.strip(), 1.0),
            *about(relation.question, subject, 1.0),
            Span("\n" + protocol.TENTATIVE.strip() + f" {true_answer}.", 1.0, "answer"),
            Span("\n" + protocol.RETRIEVED.strip(), 1.0),
            *statement,
            Span("\n" + protocol.CONTRADICTION.strip() + " " + contradicts, 1.0),
            Span("\n" + protocol.INTERMEDIATE.strip() + f" {answer}.", 1.0),
        ], answer

    def retrieved_fact(self, relation: Relation, subject: str) -> WorldFact:
        """The fact that a memory retrieves for an unedited question: true or similar."""
        draw = self.rng.random()
        true_answer = self.world.answer(subject, relation.name) or ""
        if draw < 0.25:
            return WorldFact(subject, relation.name, true_answer)
        fact = self.new_fact(relation)
        if draw < 0.5:
            fact = self.same_subject(WorldFact(subject, relation.name, true_answer))
        elif draw < 0.75:
            fact = self.new_fact()
        return (
            fact
            if (fact.subject, fact.relation) != (subject, relation.name)
            else WorldFact(subject, relation.name, true_answer)
        )

    # Chat

    def chat(self, questions: int) -> Document:
        """A chat of one or two turns. The last turn may contain facts in the IKE format."""
        rng = self.rng
        start = [Span(BOS)]
        if rng.random() < 0.3:
            start += [Span(SYSTEM), Span(" " + rng.choice(SYSTEM_PROMPTS)), Span(EOS)]
        if rng.random() < 0.3:
            start += self.turn(self.recalled(rng.choice(self.world.surfaces)))
        if rng.random() < 0.5:
            facts = [rng.choice(self.world.surfaces) for _ in range(questions)]
            branches = [self.turn(self.recalled(fact)) for fact in facts]
        else:
            prefix, ask = self.block(rng.choice((0, 0, 0, 1, 2, 3)))
            start += [Span(USER), *prefix]
            branches = [self.turn(ask())[1:] for _ in range(questions)]
        return Document(start, branches, matched=True)

    def turn(self, spans: Spans) -> Spans:
        """A user's turn and the assistant's. The last of `spans` is the assistant's."""
        *prompt, answer = spans
        return [
            Span(USER),
            *(span._replace(weight=0.0) for span in prompt),
            Span(EOS),
            Span(ASSISTANT),
            answer,
            Span(EOS, 1.0),
        ]
