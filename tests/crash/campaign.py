"""Kills of servers on one store, one after another, with everything checked after each."""

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.crash.history import UNFINISHED, History, Told
from tests.crash.points import POINTS, Failure
from tests.crash.replay import Replay
from tests.crash.servers import ForkedServer, Zygote
from tests.crash.writer import Writer

LATEST_PASSING = 4
LATEST_REFUSAL = 25
CHANGES_AROUND_A_REFUSAL = 12
REFUSING = "refusing"
"""A write is refused, after which the same server serves what a replay does."""

STARTING_SECONDS = 5.0
WRITING_SECONDS = 6.0


@dataclass
class Campaign:
    """Seeded, but for the moment at which a signal from outside arrives.

    In one round of each turn a write is refused before the kill.

    ``kills`` counts them by where they struck; ``seconds`` is the time from the first start to
    the last, restarts and checks included.
    """

    zygote: Zygote
    replay: Replay
    folder: Path
    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        self._history = History()
        self._writer = Writer(self._rng, self._history, self.replay.facts)

    def run(self, count: int) -> None:
        """Kill so many servers, and see that the one after them has everything."""
        started = time.monotonic()
        for place in self._places(count):
            print(f"seed {self.seed}, kill {self.kills.total() + 1}: {place}")  # noqa: T201
            self._round(place)
            self.kills[place if isinstance(place, str) else f"{place.action} at {place.point}"] += 1
        with self._server(None) as server:
            assert server.answers()
            self._compare(server)
        self.seconds = time.monotonic() - started

    def _places(self, count: int) -> Iterator[Failure | str]:
        """Where to kill: at each point once before any comes again, and at any time at all."""
        places: list[str] = []
        for _ in range(count):
            if not places:
                places = [*POINTS, "starting", "writing", REFUSING]
                self._rng.shuffle(places)
            place = places.pop()
            if place == REFUSING:
                # Not at the start, which would end the server with a message.
                yield Failure("appending", self._rng.randint(3, LATEST_REFUSAL), "refuse")
                continue
            passing = self._rng.randint(1, LATEST_PASSING)
            yield Failure(place, passing) if place in POINTS else place

    def _round(self, place: Failure | str) -> None:
        """Start a server, check it, change edits until it is killed."""
        with self._server(place if isinstance(place, Failure) else None) as server:
            if place == "starting":
                with _killed(server, self._rng.uniform(0.0, STARTING_SECONDS)):
                    pass
            elif server.answers():
                self._compare(server)
                self._write(server, place)
            end = server.await_end()
            assert end == -signal.SIGKILL, f"it ended by itself with {end}: {server.log}"

    def _write(self, server: ForkedServer, place: Failure | str) -> None:
        with server.client() as client:
            if isinstance(place, Failure) and place.action == "refuse":
                self._writer.make(client, CHANGES_AROUND_A_REFUSAL)
                self._compare(server)
                server.signal(signal.SIGKILL)
                return
            if isinstance(place, Failure):
                self._writer.run(client)
                return
            with _killed(server, self._rng.uniform(0.0, WRITING_SECONDS)):
                self._writer.run(client)

    def _server(self, failure: Failure | None) -> ForkedServer:
        return ForkedServer(self.zygote, self._store, self.folder / "server.log", failure)

    def _compare(self, server: ForkedServer) -> None:
        with server.client() as client:
            edits, sets = settled(client), client.get("/v1/edit-sets").json()["data"]
        self._history.compare(edits, sets)
        self.replay.compare(server, self._store, edits, sets)

    @property
    def _store(self) -> Path:
        return self.folder / "store"


def settled(client: httpx.Client, timeout: float = 60.0) -> list[Told]:
    """All edits, as soon as none is on its way any more."""
    deadline = time.monotonic() + timeout
    while True:
        edits = _all_edits(client)
        if all(edit["status"] not in UNFINISHED for edit in edits):
            return edits
        assert time.monotonic() < deadline, edits
        time.sleep(0.05)


def _all_edits(client: httpx.Client) -> list[Told]:
    edits: list[Told] = []
    params: dict[str, str] = {}
    while True:
        page = client.get("/v1/edits", params=params).json()
        edits += page["data"]
        if not page["has_more"]:
            return edits
        params = {"after": edits[-1]["id"]}


@contextmanager
def _killed(server: ForkedServer, after: float) -> Iterator[None]:
    """The server is killed so many seconds from now, and has been when this ends."""
    timer = threading.Timer(after, server.signal, [signal.SIGKILL])
    timer.start()
    try:
        yield
    finally:
        timer.join()
