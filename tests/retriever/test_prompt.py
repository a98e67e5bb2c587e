from copy import deepcopy
from typing import Any

import pytest

from retriever import Demonstration, Fact, PromptForm
from retriever.ike.prompt import (
    RESTATED,
    demonstrated,
    prefix_message,
    restated,
    shown_facts,
    text_of,
    user_turns,
)

DEMONSTRATIONS = [
    Demonstration("Bo plays chess.", "The sport of Bo is", "chess"),
    Demonstration("The capital of Oz is Ur", "Who leads Oz?", "Al?"),
]
FACTS = [
    Fact("1", "Ada", "The employer of Ada is", "Acme"),
    Fact("2", "Ada", "Where does Ada work?", "Zeta Inc."),
]


def test_demonstrations_then_facts_then_the_request() -> None:
    form = PromptForm()
    text = demonstrated(form, DEMONSTRATIONS) + shown_facts(form, FACTS[::-1], None)
    assert text == (
        "New Fact: Bo plays chess.\n"
        "Prompt: The sport of Bo is chess.\n"
        "\n"
        "New Fact: The capital of Oz is Ur.\n"
        "Prompt: Who leads Oz? Al?\n"
        "\n"
        "New Fact: The employer of Ada is Acme.\n"
        "New Fact: Where does Ada work? Zeta Inc.\n"
    )


def test_the_best_fact_in_the_words_of_the_request() -> None:
    form = PromptForm(("restated", "fact", "restated"), "- ", "")
    request = "It rained all day. Every morning Ada drives to"
    assert shown_facts(form, FACTS, restated(request, FACTS[0])) == (
        "- Where does Ada work? Zeta Inc.\n"
        "- Every morning Ada drives to Acme.\n"
        "- The employer of Ada is Acme.\n"
        "- Every morning Ada drives to Acme.\n"
    )
    assert shown_facts(form, FACTS[:1], None) == ("- The employer of Ada is Acme.\n")
    assert shown_facts(PromptForm(("restated",), ""), FACTS[:1], None) == (
        "The employer of Ada is Acme.\n"
    )


def test_demonstrations_have_the_same_form() -> None:
    form = PromptForm(("fact", "restated"))
    update = Demonstration("Bo plays chess", "It rained. Bo is good at", "chess", "update")
    retain = Demonstration("Bo plays chess", "Bees make", "honey", "retain")
    assert demonstrated(form, [update, retain]) == (
        "New Fact: Bo plays chess.\n"
        "New Fact: Bo is good at chess.\n"
        "Prompt: It rained. Bo is good at chess.\n"
        "\n"
        "New Fact: Bo plays chess.\n"
        "Prompt: Bees make honey.\n"
        "\n"
    )


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ("Where does Ada work?", "Where does Ada work? Acme."),
        ("Ada is tall. She works at ", "Ada is tall. She works at Acme."),
        ("Bo left. Ada stayed. Ada works at", "Ada works at Acme."),
        ("Question: Who pays Ada?\nAnswer:", "Question: Who pays Ada?\nAnswer: Acme."),
        ("Well, where does she work?", "Well, where does she work? Acme."),
        ("Write a poem about Ada.", None),
        ("Write about Ada!", None),
        ("  ", None),
    ],
)
def test_what_is_restated(request_: str, expected: str | None) -> None:
    assert restated(request_, FACTS[0]) == expected


def test_the_end_of_a_long_request_is_restated() -> None:
    again = restated("Ada " + "and so on " * 200 + "works at", FACTS[0])
    assert again is not None
    assert again.startswith(("and ", "so ", "on "))
    assert again.endswith("works at Acme.")
    assert len(again) <= RESTATED + len(" Acme.")


def test_the_user_turns() -> None:
    turns = [{"role": "user"}, {"role": "assistant"}, {"role": "user"}, {"role": "tool"}]
    assert user_turns(turns) == [0, 2]
    assert user_turns(turns[1:2]) == []
    assert user_turns([]) == []


def test_text_of_a_message() -> None:
    parts: list[Any] = [
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": "x"}},
        {"type": "text", "text": "b"},
        {"type": "text"},
        "junk",
    ]
    assert text_of({"content": "plain"}) == "plain"
    assert text_of({"content": parts}) == "a\nb"
    assert text_of({"content": None}) == ""
    assert text_of({}) == ""


def test_only_the_first_text_part_is_touched() -> None:
    message: dict[str, Any] = {
        "role": "user",
        "name": "n",
        "content": [
            {"type": "image_url", "image_url": {"url": "x"}},
            {"type": "text", "text": "a", "extra": 1},
            {"type": "text", "text": "b"},
        ],
    }
    before = deepcopy(message)
    after = prefix_message(message, "> ")
    assert message == before
    before["content"][1]["text"] = "> a"
    assert after == before
