"""Questions in batches, and how answers are compared."""

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from vllm_edit import factworld
from weight_patchers.tuning.asking import answers, begins_with, first_word, says


def test_batched_answers_are_the_same_as_single_ones() -> None:
    model = AutoModelForCausalLM.from_pretrained(factworld.checkpoint(), dtype="float32").eval()
    tokenizer = AutoTokenizer.from_pretrained(factworld.checkpoint())
    facts = factworld.build_world().facts[:70:7]
    prompts = [f"{fact.subject} is" for fact in facts] + ["The city of", "It is known that"]
    together = answers(model, tokenizer, prompts, 4)
    assert together == [answers(model, tokenizer, [prompt], 4)[0] for prompt in prompts]
    assert len(set(together)) > 1


@pytest.mark.parametrize(
    ("answer", "target", "begins"),
    [
        (" Paris, which", "Paris", True),
        ("paris", "Paris", True),
        ("Parisian", "Paris", False),
        ("in Paris", "Paris", False),
        ("New  York City", "New York", True),
        ("", "Paris", False),
        ("C++ is", "C++", True),
    ],
)
def test_an_answer_begins_with_the_whole_target(answer: str, target: str, begins: bool) -> None:
    assert begins_with(answer, target) is begins


def test_an_answer_says_a_target_anywhere() -> None:
    assert says("the city of New York.", "new york")
    assert not says("the Parisian", "Paris")


def test_the_first_word_has_no_marks() -> None:
    assert first_word(' "Paris", he') == "paris"
    assert first_word(" ...") == ""
