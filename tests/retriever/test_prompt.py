from copy import deepcopy
from typing import Any

from retriever import Demonstration, Fact
from retriever.ike.prompt import preamble, prefix_message, text_of, user_turns

DEMONSTRATIONS = [
    Demonstration("Bo plays chess.", "The sport of Bo is", "chess"),
    Demonstration("The capital of Oz is Ur", "Who leads Oz?", "Al?"),
]
FACTS = [
    Fact("1", "Ada", "The employer of Ada is", "Acme"),
    Fact("2", "Ada", "Where does Ada work?", "Zeta Inc."),
]


def test_demonstrations_then_facts_then_the_request() -> None:
    assert preamble(DEMONSTRATIONS, FACTS) + "Ada works for" == (
        "New Fact: Bo plays chess.\n"
        "Prompt: The sport of Bo is chess.\n"
        "\n"
        "New Fact: The capital of Oz is Ur.\n"
        "Prompt: Who leads Oz? Al?\n"
        "\n"
        "New Fact: The employer of Ada is Acme.\n"
        "New Fact: Where does Ada work? Zeta Inc.\n"
        "Prompt: Ada works for"
    )


def test_without_demonstrations() -> None:
    assert preamble([], FACTS[:1]) == "New Fact: The employer of Ada is Acme.\nPrompt: "


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
