"""All rounds: every arm once in each, in another order each time, on servers that stay up."""

import asyncio
import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.serving import traffic
from benchmarks.serving.arms import (
    HOP_EDITS,
    MELLO,
    MERGED,
    MERGED_EDITS,
    SERAC,
    SWAPPED,
    Arm,
    adapter_sets,
    memory_set,
)
from benchmarks.serving.load import CLOSED
from benchmarks.serving.measure import LoadRun, load_runs, measure
from benchmarks.serving.plan import FEW, ServingPlan
from benchmarks.serving.servers import (
    ADAPTERS,
    EDITED,
    LARGE,
    MAX_ADAPTERS,
    PLAIN,
    Editor,
    running,
)

Measurement = dict[str, Any]

logger = logging.getLogger(__name__)

_WARM_UPS = 16
_REST = 1.2
"""Seconds between arms: a worker of vLLM polls for one after its last step, on the next's core."""
_UNCOUNTED = 1_000
"""Number of the runs that warm servers up; no counted one has it."""


def rounds(
    plan: ServingPlan,
    arms: Sequence[Arm],
    folder: Path,
    large: Path | None,
    count: int | None = None,
) -> list[Measurement]:
    """Records of every arm of every round; the servers run meanwhile.

    ``count`` replaces the plan's number of rounds; see `running` for the folders.
    """
    names = list(dict.fromkeys(arm.server for arm in arms))
    questions: Sequence[str] = ()
    with running(names, folder, large) as urls:
        for name, url in urls.items():
            _load(plan, name, Editor(url), arms)
        if any(arm.hops for arm in arms):
            questions = traffic.hops(plan.closed, HOP_EDITS)[1]
        _warm_up(plan, arms, urls, questions)
        records: list[Measurement] = []
        for number in range(count or plan.rounds):
            for arm in rotated(arms, number):
                time.sleep(_REST)
                for ask in load_runs(plan, arm, number):
                    record = _one(plan, arm, ask, urls, questions) | {"edit_round": number}
                    records.append(record)
                    _note(record, folder / "records.jsonl")
    return [record | _before(record, records) for record in records]


def rotated(arms: Sequence[Arm], number: int) -> list[Arm]:
    """The order of a round: each begins a third of the way further on."""
    start = number * -(-len(arms) // 3) % len(arms)
    return [*arms[start:], *arms[:start]]


def _one(
    plan: ServingPlan, arm: Arm, ask: LoadRun, urls: Mapping[str, str], questions: Sequence[str]
) -> Measurement:
    url, editor = urls[arm.server], Editor(urls[arm.server])
    start = time.monotonic()
    if arm.active:
        editor.activate(arm.active, True)
    try:
        if arm.active:
            # The swap has cleared the prefix cache; plain vLLM's has the instructions in it.
            asyncio.run(measure(plan, arm, LoadRun(1, CLOSED, 1, _UNCOUNTED), url, questions))
        record = asyncio.run(measure(plan, arm, ask, url, questions))
    finally:
        if arm.active:
            editor.activate(arm.active, False)
    logger.info("%s, %s loop: %.1f s", arm.name, ask.loop, time.monotonic() - start)
    return record


def _note(record: Measurement, path: Path) -> None:
    """Keep it, should the run be broken off."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def _warm_up(
    plan: ServingPlan, arms: Sequence[Arm], urls: Mapping[str, str], questions: Sequence[str]
) -> None:
    """Let every arm do everything once: models load, kernels are chosen, caches are filled."""
    for arm in arms:
        if arm.storm is None:
            ask = LoadRun(_WARM_UPS, CLOSED, plan.concurrency, _UNCOUNTED)
            _one(plan, arm, ask, urls, questions)


def _load(plan: ServingPlan, name: str, editor: Editor, arms: Sequence[Arm]) -> None:
    """Give a server the edit sets that its arms ask for."""
    wanted = {model.partition("@")[2] for a in arms if a.server == name for model in a.models}
    if name == EDITED:
        few = memory_set(FEW)
        editor.make(few, traffic.facts(FEW, "ike", few))
        editor.make(MERGED, traffic.corrections(MERGED_EDITS, "memit"))
        editor.make(SWAPPED, traffic.corrections(1, "rome", first=MERGED_EDITS))
    if name == LARGE:
        many = memory_set(plan.many)
        editor.make(many, traffic.facts(plan.many, "ike", many))
    if SERAC in wanted:
        editor.make(SERAC, traffic.facts(100, "serac", SERAC))
    if MELLO in wanted:
        editor.make(MELLO, traffic.hops(0, HOP_EDITS)[0])
    if name == ADAPTERS:
        edits = traffic.corrections(MAX_ADAPTERS, "rome")
        for one, edit in zip(adapter_sets(MAX_ADAPTERS), edits, strict=True):
            editor.make(one, [edit])


def _before(record: Measurement, records: Sequence[Measurement]) -> Measurement:
    """The prefix cache's hit rate on plain vLLM, for the same requests in the same round."""
    same = ("edit_round", "edit_loop", "request_rate")
    found = [
        other["edit_cache_hit_after"]
        for other in records
        if other["edit_arm"] == PLAIN and all(other[key] == record[key] for key in same)
    ]
    return {"edit_cache_hit_before": found[0] if found else None}
