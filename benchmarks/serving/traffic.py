"""What the arms are asked.

Every prompt is behind the same instructions, as with a system prompt, longer than a KV block, so
that prefix caching has something to find. Out of scope half of the questions are about people
whom no fact is about and half about nobody; in scope they are the prompts of facts in memory. No
two requests of a run are the same.
"""

import random
from collections.abc import Sequence
from itertools import islice

from benchmarks import people
from vllm_edit import factworld
from vllm_edit.factworld.mquake import mquake

INSTRUCTIONS = (
    "Answer the question at the end of this text in a few words. Do not explain the answer, and "
    "do not repeat the question. If the answer is not known, say that it is not known. If there "
    "are several answers, give the one that is most likely. Write numbers as digits, dates with "
    "the year first, and names in full. Use plain words and no lists. This is the question. "
)
RESERVED = 30_000
"""Requests of one run at most: those of the next begin behind them."""


def prompts(count: int, number: int, scoped: int = 0, in_memory: int = 0) -> list[str]:
    """Those of run `number`; of every hundred, `scoped` are about one of the facts in memory."""
    outside = people.requests(count, number * RESERVED)
    rng = random.Random(number)  # noqa: S311 - not for secrets
    about = rng.sample(range(in_memory), min(in_memory, count)) if in_memory else []
    inside = [people.fact(which).prompt for which in about]
    chosen = [(at * scoped) // 100 != ((at + 1) * scoped) // 100 for at in range(count)]
    asked = [inside[at % len(inside)] if yes else outside[at] for at, yes in enumerate(chosen)]
    return [INSTRUCTIONS + text for text in asked]


def facts(count: int, method: str, edit_set: str) -> list[dict[str, str]]:
    """Edits about people, for a memory of any size."""
    return [
        {
            "method": method,
            "prompt": fact.prompt,
            "subject": fact.subject,
            "target_new": fact.target_new,
            "edit_set": edit_set,
        }
        for fact in islice(people.facts(count), count)
    ]


def corrections(count: int, method: str, first: int = 0) -> list[dict[str, str]]:
    """Edits of facts that the bundled model knows, no two of one fact."""
    records = factworld.requests("easyedit", first + count, seed=11)[first:]
    keys = ("prompt", "subject", "target_new")
    return [{"method": method, **{key: record[key] for key in keys}} for record in records]


def hops(count: int, edits: int) -> tuple[list[dict[str, str]], Sequence[str]]:
    """MeLLo: edits that fit together, and questions of two hops over them."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    questions: list[str] = []
    for record in mquake(factworld.build_world(), random.Random(0), 2 * edits):  # noqa: S311
        rewrites = record["requested_rewrite"]
        new = {(r["prompt"], r["subject"]): _rewritten(r) for r in rewrites}
        if len(found | new) > edits:
            break
        found |= new
        questions += record["questions"]
    return list(found.values()), [questions[at % len(questions)] for at in range(count)]


def _rewritten(rewrite: dict[str, dict[str, str]] | dict[str, str]) -> dict[str, str]:
    subject, target = str(rewrite["subject"]), rewrite["target_new"]
    assert isinstance(target, dict)  # noqa: S101 - MQuAKE's schema
    return {
        "method": "mello",
        "prompt": str(rewrite["prompt"]).format(subject),
        "subject": subject,
        "target_new": target["str"],
    }
