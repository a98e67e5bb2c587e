"""Facts in front of questions without a gate."""

from collections.abc import Sequence

import numpy as np
import pytest

from retriever import Retriever
from vllm_edit.domain.errors import InvalidData
from vllm_edit.evaluation.ablation import Ablation
from vllm_edit.evaluation.in_front import NOTHING
from vllm_edit.evaluation.record import RequestedRewrite

FIRST = RequestedRewrite("The capital of Chad is", "Chad", "Lyon")
SECOND = RequestedRewrite("The sport of Ann is", "Ann", "golf")


class Words:
    """An encoder by shared words; enough to tell which of two prompts is nearer."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        vocabulary = ["capital", "sport", "Chad", "Ann"]
        vectors = [[float(word in text) + 0.01 for word in vocabulary] for text in texts]
        return np.array(vectors, dtype=np.float32)


@pytest.fixture
def retriever() -> Retriever:
    return Retriever(Words())


def test_plain_retrieval_shows_the_nearest_fact_even_for_something_else(
    retriever: Retriever,
) -> None:
    ablation = Ablation("plain-retrieval", retriever)
    assert ablation.in_front.text("Who is Bob?") == "Who is Bob?"
    with ablation.clean_state():
        assert ablation.apply([FIRST, SECOND]).edits == 2
        shown = ablation.in_front.text("Does Ann like sport?")
        assert "golf" in shown
        assert "Lyon" not in shown
        assert shown.endswith("Does Ann like sport?")
        assert "New Fact" in ablation.in_front.text("Who is Bob?")
    assert ablation.in_front.text("Who is Ann?") == "Who is Ann?"


def test_the_fact_in_the_prompt_is_there_for_every_question(retriever: Retriever) -> None:
    ablation = Ablation("fact-in-prompt", retriever)
    with ablation.clean_state():
        ablation.apply([SECOND])
        assert "golf" in ablation.in_front.text("Who wrote Emma?")
        (message,) = ablation.in_front.chat(({"role": "user", "content": "Who?"},))
        assert "golf" in str(message["content"])


def test_there_are_no_other_ablations(retriever: Retriever) -> None:
    with pytest.raises(InvalidData, match="no ablation 'magic'"):
        Ablation("magic", retriever)


def test_nothing_in_front_changes_nothing() -> None:
    messages = ({"role": "user", "content": "Who?"},)
    assert NOTHING.text("Who?") == "Who?"
    assert NOTHING.chat(messages) is messages
