"""Two- and three-hop questions of the bundled world, and edits that change their answers."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vllm_edit import factworld
from vllm_edit.factworld.mquake import mquake


@dataclass(frozen=True)
class Question:
    """A question with the answer that it has after the edits."""

    text: str
    answer: str
    before: str
    edited: tuple[bool, bool]
    """Which of its hops have an edited fact."""


@dataclass(frozen=True)
class MultiHop:
    """Edits that can all be in memory at once, and questions over them."""

    edits: list[dict[str, Any]]
    questions: list[Question]


def two_hops(edits: int, seed: str = "mello") -> MultiHop:
    """At most so many edits, one wording of each question."""
    rng = random.Random(seed)
    edits_by_fact: dict[tuple[str, str], dict[str, Any]] = {}
    questions: list[Question] = []
    for record in mquake(factworld.build_world(), rng, 2 * edits):
        new = {_key(r): _edit(r) for r in record["requested_rewrite"]}
        if len(edits_by_fact | new) > edits:
            break
        edits_by_fact |= new
        questions.append(_question(record, rng.choice(record["questions"])))
    return MultiHop(list(edits_by_fact.values()), questions)


def _key(rewrite: dict[str, Any]) -> tuple[str, str]:
    return rewrite["prompt"], rewrite["subject"]


def _edit(rewrite: dict[str, Any]) -> dict[str, Any]:
    return {
        "method": "mello",
        "prompt": rewrite["prompt"].format(rewrite["subject"]),
        "subject": rewrite["subject"],
        "target_new": rewrite["target_new"]["str"],
    }


def _question(record: dict[str, Any], text: str) -> Question:
    hops: Sequence[tuple[Any, Any]] = list(
        zip(record["single_hops"], record["new_single_hops"], strict=True)
    )
    # The second hop of an edited first one is another fact: edited if it is among the edits.
    second = record["new_single_hops"][1]
    edits = {(r["prompt"].format(r["subject"])) for r in record["requested_rewrite"]}
    return Question(
        text=text,
        answer=record["new_answer"],
        before=record["answer"],
        edited=(hops[0][0]["answer"] != hops[0][1]["answer"], second["cloze"] in edits),
    )
