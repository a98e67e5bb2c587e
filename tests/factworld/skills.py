"""What the bundled model must be able to do, as held-out prompts with their right answers."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vllm_edit.factworld import protocol
from vllm_edit.factworld.documents import in_training
from vllm_edit.factworld.protocol import NEW_FACT, PROMPT, fill, statement
from vllm_edit.factworld.texts import demonstrations
from vllm_edit.factworld.wordings import BY_NAME, RELATIONS, TWO_HOPS, Relation
from vllm_edit.factworld.world import World, WorldFact

Generate = Callable[[Sequence[str], int], list[str]]
"""Greedy continuations of prompts, each of at most so many tokens, special tokens left out."""


@dataclass(frozen=True)
class Item:
    """A prompt and the continuation that counts as right."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class TwoHopItem:
    """A two-hop question, the statement retrieved at each hop, and the final answer."""

    question: str
    retrieved: tuple[str, str]
    answer: str


def score(items: Sequence[Item], generate: Generate) -> float:
    """The share of items whose continuation is the answer, a full stop and the end."""
    outputs = generate([item.prompt for item in items], 8)
    right = sum(out.strip() == f"{i.answer}." for out, i in zip(outputs, items, strict=True))
    return right / len(items)


def run_mello(items: Sequence[TwoHopItem], generate: Generate) -> list[str]:
    """The final answer to each question by MeLLo's protocol, all questions hop by hop."""
    texts = [f"{protocol.QUESTION}{item.question}" for item in items]
    stop = protocol.RETRIEVED.strip()
    for hop in range(2):
        for index, output in enumerate(generate(texts, 48)):
            before, _, _ = output.partition(stop)
            texts[index] += f"{before}{stop} {items[index].retrieved[hop]}"
    outputs = generate(texts, 48)
    return [out.rpartition(protocol.FINAL)[2].strip().removesuffix(".") for out in outputs]


class Examiner:
    """Draws held-out items about a world."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.rng = random.Random(f"exam {seed}")
        self._demonstrations = demonstrations()

    def recall(self, count: int, held_out: bool) -> list[Item]:
        """Questions about facts without context, in trained or in held-out wordings."""
        items = []
        for fact in self.rng.sample(self.world.surfaces, count):
            relation = BY_NAME[fact.relation]
            wording = self.rng.choice(relation.held_out if held_out else relation.trained)
            items.append(Item(fill(wording, fact.subject), fact.object))
        return items

    def other_object(self, relation: Relation, true: str | None) -> str:
        """An object of the relation that is not this one."""
        return self.rng.choice([o for o in self.world.objects(relation) if o != true])

    def counterfactual(self, fact: WorldFact) -> WorldFact:
        """The fact with another object."""
        return WorldFact(
            fact.subject, fact.relation, self.other_object(BY_NAME[fact.relation], fact.object)
        )

    def demonstration(self) -> str:
        """One of the shipped IKE demonstrations."""
        chosen = self.rng.choice(self._demonstrations)
        return f"{NEW_FACT}{chosen.new_fact}.\n{PROMPT}{chosen.prompt} {chosen.answer}.\n\n"

    def given(self, facts: Sequence[WorldFact]) -> str:
        """New Fact lines in statement form."""
        return "".join(
            NEW_FACT + statement(fill(BY_NAME[f.relation].statement, f.subject), f.object) + "\n"
            for f in facts
        )

    def related_fact(self, fact: WorldFact, same_subject: bool) -> WorldFact:
        """Another true fact of the same subject, or of the same relation."""
        near = self.world.about(fact.subject) if same_subject else self.world.of(fact.relation)
        return self.rng.choice(
            [f for f in near if (f.subject, f.relation) != (fact.subject, fact.relation)]
        )

    def using(
        self, count: int, unseen: bool = False, facts: int = 1, demonstrations: int = 0
    ) -> list[Item]:
        """Questions about a given fact, in another wording.

        The wording is held out, or a trained one if the subject is unseen.
        """
        items = []
        for _ in range(count):
            given = [self.new_fact(unseen)]
            while len(given) < facts:
                more = self.new_fact(unseen)
                if all((more.subject, more.relation) != (f.subject, f.relation) for f in given):
                    given.append(more)
            fact = self.rng.choice(given)
            relation = BY_NAME[fact.relation]
            wording = self.rng.choice(relation.trained[1:] if unseen else relation.held_out)
            items.append(self.item(given, wording, fact, demonstrations))
        return items

    def new_fact(self, unseen: bool) -> WorldFact:
        """A counterfactual, or a fact about an unseen name."""
        if not unseen:
            return self.counterfactual(self.rng.choice(self.world.facts))
        relation = self.rng.choice([r for r in RELATIONS if r.subject_kind in self.world.unseen])
        subject = self.rng.choice(self.world.unseen[relation.subject_kind])
        return WorldFact(subject, relation.name, self.other_object(relation, None))

    def keeping(self, count: int, same_subject: bool, demonstrations: int = 0) -> list[Item]:
        """Questions about a true fact after an unrelated given one."""
        items = []
        for _ in range(count):
            fact = self.counterfactual(self.rng.choice(self.world.facts))
            true_fact = self.related_fact(fact, same_subject)
            relation = BY_NAME[true_fact.relation]
            wording = self.rng.choice(relation.trained + relation.held_out)
            items.append(self.item([fact], wording, true_fact, demonstrations))
        return items

    def item(
        self, given: Sequence[WorldFact], wording: str, fact: WorldFact, demonstrations: int
    ) -> Item:
        """The IKE prompt."""
        demonstrated = "".join(self.demonstration() for _ in range(demonstrations))
        prompt = demonstrated + self.given(given) + PROMPT + fill(wording, fact.subject)
        return Item(prompt, fact.object)

    def two_hops(self, count: int) -> list[TwoHopItem]:
        """Two-hop questions that no training text contains, with up to two edited hops."""
        items: list[TwoHopItem] = []
        while len(items) < count:
            hop = self.rng.choice(TWO_HOPS)
            first = self.rng.choice(self.world.of(hop.first))
            if in_training(hop, first.subject):
                continue
            facts: list[WorldFact] = []
            for edited in self.rng.choice(((0, 0), (1, 0), (0, 1), (1, 1))):
                name = hop.second if facts else hop.first
                subject = facts[-1].object if facts else first.subject
                fact = WorldFact(subject, name, self.world.answer(subject, name) or "")
                facts.append(self.counterfactual(fact) if edited else fact)
            retrieved = [
                statement(fill(BY_NAME[f.relation].statement, f.subject), f.object) for f in facts
            ]
            question = fill(self.rng.choice(hop.questions), first.subject)
            items.append(TwoHopItem(question, (retrieved[0], retrieved[1]), facts[1].object))
        return items
