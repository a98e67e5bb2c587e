"""Any order of adds, removals and routes against a plain dict and a search by hand."""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from retriever import (
    DuplicateFactError,
    Fact,
    Pass,
    Retriever,
    RetrieverSettings,
    Rewrite,
    SentenceEncoder,
    UnknownFactError,
)
from retriever.scope import shipped_classifier
from retriever.scope.classifier_input import MASK

SUBJECTS = ["Ada", "Ada Lovelace", "Bo"]
PROMPTS = ["The employer of {} is", "{} was born in", "The spouse of {} is"]
QUESTIONS = ["Who employs {}?", "Where was {} born?", "Who is {} married to?", "Is {} tall?"]
SETTINGS = RetrieverSettings(threshold=0.5, max_facts=2)


@pytest.fixture(scope="module", autouse=True)
def shared_encoder(encoder: SentenceEncoder) -> None:
    RetrieverMachine.encoder = encoder


class RetrieverMachine(RuleBasedStateMachine):
    encoder: SentenceEncoder

    @initialize()
    def start(self) -> None:
        self.retriever = Retriever(self.encoder, settings=SETTINGS)
        self.facts: dict[str, Fact] = {}

    @rule(
        number=st.integers(0, 9),
        subject=st.sampled_from(SUBJECTS),
        prompt=st.sampled_from(PROMPTS),
        aliases=st.sampled_from([(), ("Bo",), ("Countess",)]),
    )
    def add(self, number: int, subject: str, prompt: str, aliases: tuple[str, ...]) -> None:
        fact = Fact(str(number), subject, prompt.format(subject), "Acme", aliases=aliases)
        if fact.id in self.facts:
            with pytest.raises(DuplicateFactError):
                self.retriever.add(fact)
        else:
            self.retriever.add(fact)
            self.facts[fact.id] = fact

    @rule(number=st.integers(0, 9))
    def remove(self, number: int) -> None:
        if str(number) in self.facts:
            self.retriever.remove(str(number))
            del self.facts[str(number)]
        else:
            with pytest.raises(UnknownFactError):
                self.retriever.remove(str(number))

    @rule(name=st.sampled_from([*SUBJECTS, "Countess", "Cy"]), question=st.sampled_from(QUESTIONS))
    def route(self, name: str, question: str) -> None:
        text = question.format(name)
        expected = self._expected(text)
        decision = self.retriever.route(text)
        if isinstance(decision, Pass):
            assert not expected
            return
        scores = sorted(expected.values(), reverse=True)[: SETTINGS.max_facts]
        assert list(decision.scores) == pytest.approx(scores, abs=1e-4)
        for fact_id, score in zip(decision.edit_ids, decision.scores, strict=True):
            assert score == pytest.approx(expected[fact_id], abs=1e-4)
        assert self._told(decision) == [
            self.facts[fact_id].statement for fact_id in reversed(decision.edit_ids)
        ]

    @invariant()
    def length(self) -> None:
        assert len(self.retriever) == len(self.facts)

    def _expected(self, text: str) -> dict[str, float]:
        """Scores of the facts in scope: newest of each prompt, longest name in the text."""
        newest = {fact.prompt: fact for fact in self.facts.values()}
        filed = [(name, fact) for fact in newest.values() for name in {fact.subject, *fact.aliases}]
        longest = max((name for name, _ in filed if name in text), key=len, default=None)
        named = [(name, fact) for name, fact in filed if name == longest]
        readings = [
            (text.replace(name, MASK), fact.prompt.replace(fact.subject, MASK))
            for name, fact in named
        ]
        scores = shipped_classifier().scores(readings) if readings else []
        found = {fact.id: score for (_, fact), score in zip(named, scores, strict=True)}
        return {key: score for key, score in found.items() if score >= SETTINGS.threshold}

    @staticmethod
    def _told(decision: Rewrite) -> list[Any]:
        assert decision.text is not None
        lines = decision.text.splitlines()[:-1]
        return [line.removeprefix("New Fact: ") for line in lines]


TestRetriever = RetrieverMachine.TestCase
TestRetriever.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
