"""The requests and the edits of the arms.

Every prompt begins with the same instructions, like a system prompt. They are longer than a KV
block, so prefix caching applies. Half of the requests out of scope are about people without facts,
half about no person. Requests in scope are the prompts of facts in memory. All requests of a run
are different.
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
"""The maximum number of requests of one run: the range of question numbers of each run."""


def prompts(count: int, number: int, scoped: int = 0, in_memory: int = 0) -> list[str]:
    """Prompts of run `number`. `scoped` percent are about one of the facts in memory."""
    outside = people.requests(count, number * RESERVED)
    rng = random.Random(number)  # noqa: S311 - not for secrets
    about = rng.sample(range(in_memory), min(in_memory, count)) if in_memory else []
    inside = [people.fact(which).prompt for which in about]
    chosen = [(at * scoped) // 100 != ((at + 1) * scoped) // 100 for at in range(count)]
    texts = [inside[at % len(inside)] if yes else outside[at] for at, yes in enumerate(chosen)]
    return [INSTRUCTIONS + text for text in texts]


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
    """Edits of different facts that the bundled model knows."""
    records = factworld.requests("easyedit", first + count, seed=11)[first:]
    keys = ("prompt", "subject", "target_new")
    return [{"method": method, **{key: record[key] for key in keys}} for record in records]


def hops(count: int, edits: int) -> tuple[list[dict[str, str]], Sequence[str]]:
    """For MeLLo: edits that do not contradict each other, and two-hop questions about them."""
    edits_by_prompt: dict[tuple[str, str], dict[str, str]] = {}
    questions: list[str] = []
    for record in mquake(factworld.build_world(), random.Random(0), 2 * edits):  # noqa: S311
        rewrites = record["requested_rewrite"]
        new = {(r["prompt"], r["subject"]): _rewritten(r) for r in rewrites}
        if len(edits_by_prompt | new) > edits:
            break
        edits_by_prompt |= new
        questions += record["questions"]
    return list(edits_by_prompt.values()), [questions[at % len(questions)] for at in range(count)]


def _rewritten(rewrite: dict[str, dict[str, str]] | dict[str, str]) -> dict[str, str]:
    subject, target = str(rewrite["subject"]), rewrite["target_new"]
    assert isinstance(target, dict)  # noqa: S101 - MQuAKE's schema
    return {
        "method": "mello",
        "prompt": str(rewrite["prompt"]).format(subject),
        "subject": subject,
        "target_new": target["str"],
    }
