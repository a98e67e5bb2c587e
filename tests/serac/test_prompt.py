"""The prompts of the counterfactual model."""

import pytest

from retriever import Fact
from vllm_edit.serac.prompt import with_edits
from vllm_edit.serac.serac import can_answer

ONE = Fact("e1", "Anna", "Anna was born in", "Oslo")
TWO = Fact("e2", "Ben", "Ben was born in", "Bergen")
SHOWN = "New Fact: Ben was born in Bergen.\nNew Fact: Anna was born in Oslo.\nPrompt: "


def test_facts_precede_the_prompt_with_the_most_certain_last() -> None:
    assert with_edits({"prompt": "Where?", "n": 2}, [ONE, TWO]) == {"prompt": f"{SHOWN}Where?"}
    assert with_edits({"prompt": ["A", "B"]}, [ONE]) == {
        "prompt": [
            "New Fact: Anna was born in Oslo.\nPrompt: A",
            "New Fact: Anna was born in Oslo.\nPrompt: B",
        ]
    }


def test_facts_precede_the_last_question_of_a_chat() -> None:
    before = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hello!"},
    ]
    question = {"role": "user", "content": "Where was Anna born?"}
    changed = with_edits({"messages": [*before, question]}, [ONE, TWO])
    assert changed == {
        "messages": [*before, {**question, "content": f"{SHOWN}Where was Anna born?"}]
    }
    assert question["content"] == "Where was Anna born?"


def test_the_text_part_of_a_question_takes_the_facts() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    parts = [image, {"type": "text", "text": "Who?"}]
    (turn,) = with_edits({"messages": [{"role": "user", "content": parts}]}, [ONE, TWO])["messages"]
    assert turn["content"] == [image, {"type": "text", "text": f"{SHOWN}Who?"}]


@pytest.mark.parametrize(
    "more",
    [{}, {"stream": True, "temperature": 0.5}, {"response_format": {"type": "text"}},
     {"tools": [], "echo": False, "logprobs": None}],
)  # fmt: skip
def test_plain_requests_are_supported(more: dict[str, object]) -> None:
    assert can_answer({"prompt": "x", **more})
    assert can_answer({"prompt": ["x", "y"], **more})
    assert can_answer({"messages": [{"role": "user", "content": "x"}], **more})


@pytest.mark.parametrize(
    "more",
    [
        {"tools": [{"type": "function"}]},
        {"logprobs": 1},
        {"echo": True},
        {"response_format": {"type": "json_object"}},
        {"response_format": "text"},
        {"structured_outputs": {"regex": "a"}},
        {"logit_bias": {"1": 1}},
        {"continue_final_message": True},
        {"prompt": [1, 2]},
        {"prompt": [[1, 2]]},
        {"prompt": 1},
    ],
)
def test_requests_that_need_the_served_model_are_not_supported(more: dict[str, object]) -> None:
    assert not can_answer({"prompt": "x", **more})
