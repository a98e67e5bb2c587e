"""A client that changes edits at random, for as long as the server lives."""

import random
import time
from collections.abc import Sequence
from typing import Any

import httpx

from tests.cases import Case, all_cases
from tests.crash.history import History
from tests.crash.operations import ActivateSet, CreateSet, Delete, DeleteSet, Operation, Post

MOST_ALIVE = 8
SETS = ("red", "blue")

REFUSALS = ("edit_failed", "target_not_reached", "conflicting_edits", "not_told", "store_error")
"""It had failed since; the rest of its batch cannot do without it; the other set has that fact, or
other edits that default traffic sees keep it from being told; it could not be recorded."""


class Writer:
    """Posts edits of all kinds, alone and in lists, in sets and in none, and takes them back.

    One thing after another. Of the facts some get weight edits, some memory edits, and some
    either in sets.
    """

    def __init__(self, rng: random.Random, history: History, facts: Sequence[Case]) -> None:
        self._rng = rng
        self._history = history
        third = len(facts) // 3
        self._weights = facts[:third]
        self._memory = facts[third : 2 * third]
        self._in_sets = facts[2 * third :]

    def run(self, client: httpx.Client, timeout: float = 90.0) -> None:
        """Change something again and again until the server dies; fails if it does not."""
        deadline = time.monotonic() + timeout
        try:
            while time.monotonic() < deadline:
                self._do(client, self._draw())
        except httpx.TransportError:
            return
        raise AssertionError(f"the server still lives after {timeout:g} s")

    def make(self, client: httpx.Client, count: int) -> None:
        """Change so many things; the server must live on."""
        for _ in range(count):
            self._do(client, self._draw())

    def _do(self, client: httpx.Client, operation: Operation) -> None:
        self._history.pending = operation
        reply = operation.send(client)
        if reply.is_success:
            self._history.acknowledge(reply.json())
        else:
            assert reply.json()["error"]["code"] in REFUSALS, (operation, reply.text)
            self._history.refuse()

    def _draw(self) -> Operation:
        alive = self._history.alive()
        if alive and self._rng.random() < len(alive) / MOST_ALIVE:
            return Delete(self._rng.choice(alive)["id"])
        kind = self._rng.choice(("ike", "rome", "list", "set", "set"))
        if kind == "set":
            return self._draw_for_a_set(self._rng.choice(SETS))
        if kind == "list":
            batch = [case.edit("memit") for case in self._rng.sample(self._weights, 2)]
            return self._post(*batch, self._edit("ike", self._memory))
        return self._post(self._edit(kind, self._memory if kind == "ike" else self._weights))

    def _draw_for_a_set(self, name: str) -> Operation:
        known = self._history.sets.get(name)
        if known is None:
            return CreateSet(name)
        draw = self._rng.random()
        if draw < 0.5:
            method = self._rng.choice(("ike", "rome"))
            return self._post(self._edit(method, self._in_sets) | {"edit_set": name})
        return ActivateSet(name, not known["active"]) if draw < 0.85 else DeleteSet(name)

    def _post(self, *edits: dict[str, Any]) -> Post:
        return Post(edits, wait=self._rng.random() < 0.7)

    def _edit(self, method: str, cases: Sequence[Case]) -> dict[str, Any]:
        case = self._rng.choice(cases)
        alike = [other for other in all_cases() if _relation(other) == _relation(case)]
        return case.edit(method, target_new=self._rng.choice(alike).target_new)


def _relation(case: Case) -> str:
    return case.prompt.replace(case.subject, "")
