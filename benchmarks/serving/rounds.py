"""All rounds. Each measures every arm once, in another order, on the same servers."""

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
    started_servers,
)

Measurement = dict[str, Any]

logger = logging.getLogger(__name__)

_WARM_UPS = 16
_REST = 1.2
"""Seconds between arms. A vLLM worker polls for a second after its last step, which would take
processor time from the next arm."""
_UNCOUNTED = 1_000
"""Number of warm-up runs. No measured run has it."""


def rounds(
    plan: ServingPlan,
    arms: Sequence[Arm],
    folder: Path,
    large: Path | None,
    count: int | None = None,
) -> list[Measurement]:
    """Records of every arm of every round.

    `count` replaces the plan's number of rounds. `started_servers` describes the folders.
    """
    names = list(dict.fromkeys(arm.server for arm in arms))
    questions: Sequence[str] = ()
    with started_servers(names, folder, large) as urls:
        for name, url in urls.items():
            _load(plan, name, Editor(url), arms)
        if any(arm.hops for arm in arms):
            questions = traffic.hops(plan.closed, HOP_EDITS)[1]
        _warm_up(plan, arms, urls, questions)
        records: list[Measurement] = []
        for number in range(count or plan.rounds):
            for arm in rotated(arms, number):
                time.sleep(_REST)
                for run in load_runs(plan, arm, number):
                    record = _one(plan, arm, run, urls, questions) | {"edit_round": number}
                    records.append(record)
                    _append(record, folder / "records.jsonl")
    return [record | _before(record, records) for record in records]


def rotated(arms: Sequence[Arm], number: int) -> list[Arm]:
    """The order of a round: each round begins a third of the list later than the one before."""
    start = number * -(-len(arms) // 3) % len(arms)
    return [*arms[start:], *arms[:start]]


def _one(
    plan: ServingPlan, arm: Arm, run: LoadRun, urls: Mapping[str, str], questions: Sequence[str]
) -> Measurement:
    url, editor = urls[arm.server], Editor(urls[arm.server])
    start = time.monotonic()
    if arm.active:
        editor.activate(arm.active, True)
    try:
        if arm.active:
            # The swap has cleared the prefix cache. Fill it again, as that of plain vLLM is filled.
            asyncio.run(measure(plan, arm, LoadRun(1, CLOSED, 1, _UNCOUNTED), url, questions))
        record = asyncio.run(measure(plan, arm, run, url, questions))
    finally:
        if arm.active:
            editor.activate(arm.active, False)
    logger.info("%s, %s loop: %.1f s", arm.name, run.loop, time.monotonic() - start)
    return record


def _append(record: Measurement, path: Path) -> None:
    """Save the record, in case the run is interrupted."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def _warm_up(
    plan: ServingPlan, arms: Sequence[Arm], urls: Mapping[str, str], questions: Sequence[str]
) -> None:
    """Run every arm once, so that models are loaded and caches are filled."""
    for arm in arms:
        if arm.storm is None:
            run = LoadRun(_WARM_UPS, CLOSED, plan.concurrency, _UNCOUNTED)
            _one(plan, arm, run, urls, questions)


def _load(plan: ServingPlan, name: str, editor: Editor, arms: Sequence[Arm]) -> None:
    """Create the edit sets that a server's arms need."""
    needed = {model.partition("@")[2] for a in arms if a.server == name for model in a.models}
    if name == EDITED:
        few = memory_set(FEW)
        editor.make(few, traffic.facts(FEW, "ike", few))
        editor.make(MERGED, traffic.corrections(MERGED_EDITS, "memit"))
        editor.make(SWAPPED, traffic.corrections(1, "rome", first=MERGED_EDITS))
    if name == LARGE:
        many = memory_set(plan.many)
        editor.make(many, traffic.facts(plan.many, "ike", many))
    if SERAC in needed:
        editor.make(SERAC, traffic.facts(100, "serac", SERAC))
    if MELLO in needed:
        editor.make(MELLO, traffic.hops(0, HOP_EDITS)[0])
    if name == ADAPTERS:
        edits = traffic.corrections(MAX_ADAPTERS, "rome")
        for one, edit in zip(adapter_sets(MAX_ADAPTERS), edits, strict=True):
            editor.make(one, [edit])


def _before(record: Measurement, records: Sequence[Measurement]) -> Measurement:
    """The prefix-cache hit rate of plain vLLM for the same requests in the same round."""
    same = ("edit_round", "edit_loop", "request_rate")
    rates = [
        other["edit_cache_hit_after"]
        for other in records
        if other["edit_arm"] == PLAIN and all(other[key] == record[key] for key in same)
    ]
    return {"edit_cache_hit_before": rates[0] if rates else None}
