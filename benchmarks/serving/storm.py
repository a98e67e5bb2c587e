"""Makes edits at a fixed rate during a load, and measures when they become visible."""

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
"""Seconds between two checks whether an edit is visible."""
_PATIENCE = 30.0
_PENDING = ("proposed", "computing", "applying")
_TOKENS = 8


@dataclass
class StormResult:
    """The result of a storm. Times are of time.perf_counter, durations in seconds."""

    requested: int = 0
    refused: int = 0
    accepting: list[float] = field(default_factory=list)
    """From each request to its acceptance."""
    visible: list[float] = field(default_factory=list)
    """From an edit's acceptance to the first answer that shows it, of one edit at a time."""
    unseen: int = 0
    ids: list[str] = field(default_factory=list)
    swaps: list[float] = field(default_factory=list)
    failed: int = 0
    active: int = 0


@asynccontextmanager
async def edit_storm(storm: Storm, url: str, name: str) -> AsyncIterator[StormResult]:
    """A storm that lasts as long as the context. At its end the edits are rolled back."""
    result, editor = StormResult(), Editor(url)
    if storm.kind != "swap":
        await asyncio.to_thread(editor.make, name, (), True)
    async with httpx.AsyncClient(base_url=url, timeout=120.0) as http:
        task = asyncio.create_task(_make_edits(storm, http, name, result))
        try:
            yield result
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await _read_final_states(storm, http, result)
            if storm.kind == "swap":
                await asyncio.to_thread(editor.activate, SWAPPED, False)
            else:
                await asyncio.to_thread(editor.end, name)


async def _make_edits(
    storm: Storm, http: httpx.AsyncClient, name: str, result: StormResult
) -> None:
    """Start each change at its time, even if earlier ones still run."""
    begun = time.perf_counter()
    check = _VisibilityCheck(http, result)
    async with asyncio.TaskGroup() as tasks:
        for number, edit in enumerate(_edits(storm, name)):
            await asyncio.sleep(max(0.0, begun + number / storm.rate - time.perf_counter()))
            result.requested += 1
            if edit is None:
                # The engine does one swap at a time, so switches of a set wait for each other.
                await _switch(http, number % 2 == 0, result)
            else:
                tasks.create_task(_post(http, edit, result, check))


def _edits(storm: Storm, name: str) -> Any:
    if storm.kind == "swap":
        return itertools.repeat(None)
    made = traffic.corrections(CORRECTIONS, METHODS[storm.kind], first=100)
    return itertools.cycle([{**edit, "edit_set": name} for edit in made])


async def _switch(http: httpx.AsyncClient, active: bool, result: StormResult) -> None:
    start = time.perf_counter()
    reply = await http.patch(f"/v1/edit-sets/{SWAPPED}", json={"active": active})
    now = time.perf_counter()
    if not reply.is_success:
        result.refused += 1
        return
    result.accepting.append(now - start)
    result.swaps.append(now)
    result.active += 1


async def _post(
    http: httpx.AsyncClient,
    edit: Mapping[str, str],
    result: StormResult,
    check: "_VisibilityCheck",
) -> None:
    start = time.perf_counter()
    reply = await http.post("/v1/edits", json=edit)
    accepted = time.perf_counter()
    if reply.status_code != httpx.codes.ACCEPTED:
        result.refused += 1
        return
    result.accepting.append(accepted - start)
    edit_id = reply.json()["id"]
    result.ids.append(edit_id)
    await check.run(edit, edit_id, accepted)


class _VisibilityCheck:
    """Polls until an edit is visible; only one edit at a time, to add little load."""

    def __init__(self, http: httpx.AsyncClient, result: StormResult) -> None:
        self._http = http
        self._result = result
        self._busy = False

    async def run(self, edit: Mapping[str, str], edit_id: str, accepted: float) -> None:
        if self._busy:
            return
        self._busy = True
        try:
            visible = await self._first_answer(edit, edit_id, accepted + _PATIENCE)
        finally:
            self._busy = False
        if visible is None:
            self._result.unseen += 1
        else:
            self._result.visible.append(visible - accepted)

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
            # The edit's status first: asking the model each time would be a tenth of the load.
            status = (await self._http.get(f"/v1/edits/{edit_id}")).json()["status"]
            if status not in _PENDING:
                reply = await self._http.post("/v1/completions", json=body)
                now = time.perf_counter()
                text = reply.json()["choices"][0]["text"] if reply.is_success else ""
                used = reply.headers.get("x-edit-ids", "").split(",")
                if edit_id in used or text.strip().startswith(edit["target_new"]):
                    return now
                if status != "active":
                    return None
            await asyncio.sleep(_POLL)
        return None


async def _read_final_states(storm: Storm, http: httpx.AsyncClient, result: StormResult) -> None:
    """Count the active and the failed edits, and note when the engine swapped for them."""
    shift = time.time() - time.perf_counter()
    for edit_id in result.ids:
        reply = await http.get(f"/v1/edits/{edit_id}")
        edit = reply.json()
        result.failed += edit["status"] == "failed"
        if edit["status"] in ("active", "superseded"):
            result.active += 1
            if storm.kind == "weight" and edit["status"] == "active":
                result.swaps.append(edit["updated_at"] - shift)
    result.swaps = sorted(set(result.swaps))
