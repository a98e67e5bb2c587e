"""Training documents: what the model reads, and which parts of it count."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from vllm_edit.factworld import protocol
from vllm_edit.factworld.protocol import ASSISTANT, BOS, EOS, SYSTEM, USER
from vllm_edit.factworld.wordings import BY_NAME, RELATIONS, SUBJECT, TWO_HOPS, Relation, TwoHop
from vllm_edit.factworld.world import Fact, World

BACKGROUND = 0.05
COPIED = 0.3
SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "Answer the question.",
    "You are a helpful assistant who knows many facts.",
)


class Span(NamedTuple):
    """A piece of text, the loss weight of its tokens, and what it is: subject, answer or other.

    A text begins with a space, a newline or punctuation, or is a special token.
    """

    text: str
    weight: float = 0.0
    kind: str = ""


Spans = list[Span]


@dataclass
class Document:
    """A prefix and the branches that each continue it without seeing one another.

    `recall` marks branches answered from the model's own memory alone. In an `edited` document
    the first two branches give a relation of the subject a new answer, the others are true.
    """

    prefix: Spans
    branches: list[Spans] = field(default_factory=list)
    recall: bool = False
    edited: bool = False
    localise: bool = True


def about(wording: str, subject: str, weight: float = 0.0) -> Spans:
    """The spans of a wording about a subject."""
    before, after = wording.split(SUBJECT)
    spans = [Span(" " + before.strip(), weight)] if before else []
    spans.append(Span(" " + subject, weight, "subject"))
    return [*spans, Span(after, weight)]


def answered(wording: str, subject: str, answer: str, weight: float = 0.0) -> Spans:
    """A wording with its answer; the answer and its full stop count fully."""
    return [*about(wording, subject, weight), Span(f" {answer}.", 1.0, "answer")]


def silent(spans: Spans) -> Spans:
    """The same text, none of which counts."""
    return [Span(span.text) for span in spans]


def split_two_hop(world: World, hop: TwoHop, subject: str) -> bool:
    """Whether training documents may ask this two-hop question about this subject."""
    return random.Random(f"{hop.first} {hop.second} {subject}").random() < 0.85


class Writer:
    """Writes random training documents about a world, from trained wordings only."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self.world = world
        self.rng = rng
        self._sharing: dict[str, list[str]] = {}
        for name in world.known:
            for part in name.split():
                self._sharing.setdefault(part, []).append(name)
        self._names = {
            kind: [*names, *(world.aliases[name] for name in names if name in world.aliases)]
            for kind, names in world.entities.items()
        }

    # Facts

    def object_for(self, relation: Relation, other_than: str | None) -> str:
        objects = self.world.objects(relation)
        choice = self.rng.choice(objects)
        return self.rng.choice(objects) if choice == other_than else choice

    def new_fact(self, relation: Relation | None = None) -> Fact:
        """A counterfactual about a known subject, or a fact about a fictional one."""
        rng = self.rng
        relation = relation or rng.choice(RELATIONS)
        kind = relation.subject_kind
        if kind in self.world.fictional and rng.random() < 0.4:
            subject = rng.choice(self.world.fictional[kind])
        elif relation.name in ("leads", "capital_of"):
            subject = rng.choice(self.world.of(relation.name)).subject
        else:
            subject = rng.choice(self._names[kind])
        true = self.world.answer(subject, relation.name)
        return Fact(subject, relation.name, self.object_for(relation, true))

    def new_facts(self, count: int) -> list[Fact]:
        """Several new facts, often close to one another, never twice the same question."""
        facts = [self.new_fact()]
        while len(facts) < count:
            near = self.rng.choice(facts)
            draw = self.rng.random()
            if draw < 0.4:
                fact = self.new_fact(BY_NAME[near.relation])
            elif draw < 0.6:
                fact = self.same_subject(near)
            else:
                fact = self.new_fact()
            if all((fact.subject, fact.relation) != (f.subject, f.relation) for f in facts):
                facts.append(fact)
        return facts

    def same_subject(self, fact: Fact) -> Fact:
        kind = BY_NAME[fact.relation].subject_kind
        others = [r for r in RELATIONS if r.subject_kind == kind and r.name != fact.relation]
        relation = self.rng.choice(others)
        return Fact(fact.subject, relation.name, self.object_for(relation, None))

    def wording(self, relation: str) -> str:
        return self.rng.choice(BY_NAME[relation].trained)

    def statement_wording(self, relation: str) -> str:
        known = BY_NAME[relation]
        return self.rng.choice(known.trained if self.rng.random() < 0.15 else known.clozes)

    # Closed book

    def recalled(self, fact: Fact) -> Spans:
        return answered(self.wording(fact.relation), fact.subject, fact.object, BACKGROUND)

    def closed(self, facts: Sequence[Fact]) -> Document:
        """Each fact alone, as a plain prompt."""
        branches = [[*self.recalled(fact), Span(EOS, 1.0)] for fact in facts]
        return Document([Span(BOS)], branches, recall=True)

    def edited(self, questions: int) -> Document:
        """One subject's facts, one of which is to be changed."""
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
        """Many sentences in a row, as ordinary text."""
        spans: Spans = [Span(BOS)]
        for _ in range(sentences):
            spans += self.recalled(self.rng.choice(self.world.surfaces))
        return Document([], [[*spans, Span(EOS, 1.0)]], localise=False)

    # Facts given in the prompt

    def query(self, fact: Fact, facts: Sequence[Fact], used: str) -> tuple[str, Fact]:
        """A wording and the fact that answers it, for a prompt beside given facts."""
        rng, world = self.rng, self.world
        known = fact.subject in world.known
        draw = rng.random()
        if draw < 0.15:
            return used, fact
        if draw < 0.45 or (not known and draw < 0.6):
            return self.wording(fact.relation), fact
        asked = {(f.subject, f.relation) for f in facts}
        pool: Sequence[Fact] = ()
        if draw < 0.72:
            pool = world.of(fact.relation)
            if rng.random() < 0.35:
                near = {n for part in fact.subject.split() for n in self._sharing.get(part, ())}
                pool = [f for n in near for f in world.about(n) if f.relation == fact.relation]
        elif draw < 0.93:
            pool = [f for f in world.about(fact.subject) if f.relation != fact.relation]
        pool = [f for f in pool if (f.subject, f.relation) not in asked]
        while not pool:
            pool = [f for f in [rng.choice(world.surfaces)] if (f.subject, f.relation) not in asked]
        other = rng.choice(pool)
        same_words = other.relation == fact.relation and rng.random() < 0.3
        return (used if same_words else self.wording(other.relation)), other

    def fact_lines(self, facts: Sequence[Fact], first: bool) -> tuple[Spans, list[str]]:
        spans: Spans = []
        wordings = [self.statement_wording(fact.relation) for fact in facts]
        for fact, wording in zip(facts, wordings, strict=True):
            spans.append(Span((" " if first else "") + "New Fact:"))
            spans += silent(answered(wording, fact.subject, fact.object))
            spans.append(Span("\n"))
            first = False
        return spans, wordings

    def ask(self, facts: Sequence[Fact], wordings: Sequence[str]) -> Spans:
        index = self.rng.randrange(len(facts))
        wording, fact = self.query(facts[index], facts, wordings[index])
        return [Span("Prompt:"), *answered(wording, fact.subject, fact.object)]

    def count(self) -> int:
        return self.rng.choices((1, 2, 3), (0.6, 0.22, 0.18))[0]

    def copied(self, questions: int) -> Document:
        """New facts, each said again word for word."""
        facts = self.new_facts(self.count())
        prefix, wordings = self.fact_lines(facts, first=True)
        asked = []
        for _ in range(questions):
            index = self.rng.randrange(len(facts))
            fact = facts[index]
            said = answered(wordings[index], fact.subject, fact.object, COPIED)
            asked.append([Span("Prompt:"), *said])
        return self.grouped(prefix, asked, running=0.5, localise=False)

    def given(self, questions: int) -> Document:
        """New facts and questions over them, each question alone or one after the other."""
        facts = self.new_facts(self.count())
        prefix, wordings = self.fact_lines(facts, first=True)
        asked = [self.ask(facts, wordings) for _ in range(questions)]
        return self.grouped(prefix, asked, running=0.25, localise=True)

    def grouped(
        self, prefix: Spans, asked: list[Spans], running: float, localise: bool
    ) -> Document:
        """The prompts each alone after the prefix or, with this chance, one after the other."""
        if self.rng.random() < running:
            run = [span for spans in asked for span in [*spans, Span("\n")]]
            return Document([], [[Span(BOS), *prefix, *run]], localise=False)
        branches = [[*spans, Span(EOS, 1.0)] for spans in asked]
        return Document([Span(BOS), *prefix], branches, localise=localise)

    def block(self, demonstrations: int) -> tuple[Spans, Callable[[], Spans]]:
        """Demonstrations and new facts, and a function that asks about them."""
        prefix: Spans = []
        for _ in range(demonstrations):
            shown = [self.new_fact()]
            lines, wordings = self.fact_lines(shown, first=not prefix)
            prefix += [*lines, *self.ask(shown, wordings), Span("\n"), Span("\n")]
        facts = self.new_facts(self.count())
        lines, wordings = self.fact_lines(facts, first=not prefix)
        return [*prefix, *lines], lambda: self.ask(facts, wordings)

    def demonstrated(self, demonstrations: int, questions: int) -> Document:
        """The IKE format."""
        prefix, ask = self.block(demonstrations)
        branches = [[*ask(), Span(EOS, 1.0)] for _ in range(questions)]
        return Document([Span(BOS), *prefix], branches)

    # MeLLo

    def mello(self) -> Spans:
        """One two-hop question with its hops, of which none, one or both are edited."""
        rng = self.rng
        while True:
            hop = rng.choice(TWO_HOPS)
            subject = rng.choice(self._names[BY_NAME[hop.first].subject_kind])
            if split_two_hop(self.world, hop, subject):
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
        known = self.world.answer(subject, relation.name) or ""
        edited = rng.random() < 0.5
        if edited:
            answer = self.object_for(relation, known)
            fact = Fact(subject, relation.name, answer)
        else:
            answer, fact = known, self.beside(relation, subject)
        contradicts = "Yes." if answer != known else "No."
        statement = silent(
            answered(self.statement_wording(fact.relation), fact.subject, fact.object)
        )
        return [
            Span("\n" + protocol.SUBQUESTION.strip(), 1.0),
            *about(relation.question, subject, 1.0),
            Span("\n" + protocol.TENTATIVE.strip() + f" {known}.", 1.0, "answer"),
            Span("\n" + protocol.RETRIEVED.strip(), 1.0),
            *statement,
            Span("\n" + protocol.CONTRADICTION.strip() + " " + contradicts, 1.0),
            Span("\n" + protocol.INTERMEDIATE.strip() + f" {answer}.", 1.0),
        ], answer

    def beside(self, relation: Relation, subject: str) -> Fact:
        """What a memory returns for a question it has no edit of: the truth or something near."""
        draw = self.rng.random()
        known = self.world.answer(subject, relation.name) or ""
        if draw < 0.25:
            return Fact(subject, relation.name, known)
        fact = self.new_fact(relation)
        if draw < 0.5:
            fact = self.same_subject(Fact(subject, relation.name, known))
        elif draw < 0.75:
            fact = self.new_fact()
        return (
            fact
            if (fact.subject, fact.relation) != (subject, relation.name)
            else Fact(subject, relation.name, known)
        )

    # Chat

    def chat(self, questions: int) -> Document:
        """A chat of one or two turns, closed book or with an IKE block in the last turn."""
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
        return Document(start, branches)

    def turn(self, spans: Spans) -> Spans:
        """A user's turn and the assistant's; the last span is the answer."""
        *prompt, answer = spans
        return [
            Span(USER),
            *(span._replace(weight=0.0) for span in prompt),
            Span(EOS),
            Span(ASSISTANT),
            answer,
            Span(EOS, 1.0),
        ]
