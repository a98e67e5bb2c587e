"""Edits that come at a rate while requests are served, and when they are seen."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

from benchmarks.serving import traffic
from benchmarks.serving.arms import SWAPPED, Storm
from benchmarks.serving.servers import MODEL, Editor

METHODS = {"memory": "ike", "weight": "rome"}
CORRECTIONS = 400
_POLL = 0.1
"""Seconds between two questions whether an edit is seen yet."""
_PATIENCE = 30.0
_ON_THEIR_WAY = ("proposed", "computing", "applying")
_TOKENS = 8


@dataclass
class StormResult:
    """What a storm was: times by time.perf_counter, durations in seconds."""

    asked: int = 0
    refused: int = 0
    accepting: list[float] = field(default_factory=list)
    """From the request to its acceptance."""
    visible: list[float] = field(default_factory=list)
    """From an edit's acceptance to the first answer that has it; of one edit at a time."""
    unseen: int = 0
    ids: list[str] = field(default_factory=list)
    swaps: list[float] = field(default_factory=list)
    failed: int = 0
    active: int = 0


@asynccontextmanager
async def storm_blows(storm: Storm, url: str, name: str) -> AsyncIterator[StormResult]:
    """A storm that lasts as long as what is inside; its edits are taken back then."""
    weather, editor = StormResult(), Editor(url)
    if storm.kind != "swap":
        await asyncio.to_thread(editor.make, name, (), True)
    async with httpx.AsyncClient(base_url=url, timeout=120.0) as http:
        task = asyncio.create_task(_blow(storm, http, name, weather))
        try:
            yield weather
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await _look_back(storm, http, weather)
            if storm.kind == "swap":
                await asyncio.to_thread(editor.activate, SWAPPED, False)
            else:
                await asyncio.to_thread(editor.end, name)


async def _blow(storm: Storm, http: httpx.AsyncClient, name: str, weather: StormResult) -> None:
    """One change after the other, each at its time, however long those before it take."""
    begun = time.perf_counter()
    watch = _Watch(http, weather)
    async with asyncio.TaskGroup() as tasks:
        for number, edit in enumerate(_edits(storm, name)):
            await asyncio.sleep(max(0.0, begun + number / storm.rate - time.perf_counter()))
            weather.asked += 1
            if edit is None:
                # The engine swaps one thing at a time, and so does whoever switches a set.
                await _switch(http, number % 2 == 0, weather)
            else:
                tasks.create_task(_post(http, edit, weather, watch))


def _edits(storm: Storm, name: str) -> Any:
    if storm.kind == "swap":
        return itertools.repeat(None)
    made = traffic.corrections(CORRECTIONS, METHODS[storm.kind], first=100)
    return itertools.cycle([{**edit, "edit_set": name} for edit in made])


async def _switch(http: httpx.AsyncClient, active: bool, weather: StormResult) -> None:
    start = time.perf_counter()
    reply = await http.patch(f"/v1/edit-sets/{SWAPPED}", json={"active": active})
    now = time.perf_counter()
    if not reply.is_success:
        weather.refused += 1
        return
    weather.accepting.append(now - start)
    weather.swaps.append(now)
    weather.active += 1


async def _post(
    http: httpx.AsyncClient, edit: Mapping[str, str], weather: StormResult, watch: "_Watch"
) -> None:
    start = time.perf_counter()
    reply = await http.post("/v1/edits", json=edit)
    accepted = time.perf_counter()
    if reply.status_code != httpx.codes.ACCEPTED:
        weather.refused += 1
        return
    weather.accepting.append(accepted - start)
    found = reply.json()["id"]
    weather.ids.append(found)
    await watch.see(edit, found, accepted)


class _Watch:
    """Asks until an edit is seen; of one edit at a time, to be a small part of the load."""

    def __init__(self, http: httpx.AsyncClient, weather: StormResult) -> None:
        self._http = http
        self._weather = weather
        self._busy = False

    async def see(self, edit: Mapping[str, str], edit_id: str, accepted: float) -> None:
        if self._busy:
            return
        self._busy = True
        try:
            seen = await self._first_answer(edit, edit_id, accepted + _PATIENCE)
        finally:
            self._busy = False
        if seen is None:
            self._weather.unseen += 1
        else:
            self._weather.visible.append(seen - accepted)

    async def _first_answer(
        self, edit: Mapping[str, str], edit_id: str, deadline: float
    ) -> float | None:
        body = {
            "model": MODEL,
            "prompt": edit["prompt"],
            "max_tokens": _TOKENS,
            "temperature": 0.0,
        }
        while time.perf_counter() < deadline:
            # Asking the model each time would be a tenth of the load.
            status = (await self._http.get(f"/v1/edits/{edit_id}")).json()["status"]
            if status not in _ON_THEIR_WAY:
                reply = await self._http.post("/v1/completions", json=body)
                now = time.perf_counter()
                said = reply.json()["choices"][0]["text"] if reply.is_success else ""
                used = reply.headers.get("x-edit-ids", "").split(",")
                if edit_id in used or said.strip().startswith(edit["target_new"]):
                    return now
                if status != "active":
                    return None
            await asyncio.sleep(_POLL)
        return None


async def _look_back(storm: Storm, http: httpx.AsyncClient, weather: StormResult) -> None:
    """What became of the edits, and when the engine swapped for them."""
    shift = time.time() - time.perf_counter()
    for edit_id in weather.ids:
        reply = await http.get(f"/v1/edits/{edit_id}")
        edit = reply.json()
        weather.failed += edit["status"] == "failed"
        if edit["status"] in ("active", "superseded"):
            weather.active += 1
            if storm.kind == "weight" and edit["status"] == "active":
                weather.swaps.append(edit["updated_at"] - shift)
    weather.swaps = sorted(set(weather.swaps))
