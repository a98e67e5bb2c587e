"""A client that changes edits at random, for as long as the server lives."""

import random
from collections.abc import Sequence
from typing import Any

import httpx

from tests.cases import Case
from tests.crash.history import Delete, History, Post

MOST_ALIVE = 6


class Writer:
    """Posts single edits and lists of all kinds, and takes edits back, one thing after another.

    ``weights`` and ``memory`` are the facts that get edits of either kind; each fact can get the
    target of any case of its kind.
    """

    def __init__(
        self, rng: random.Random, history: History, weights: Sequence[Case], memory: Sequence[Case]
    ) -> None:
        self._rng = rng
        self._history = history
        self._weights = weights
        self._memory = memory

    def run(self, client: httpx.Client, most: int) -> bool:
        """Change something at most so often; returns whether the server died of it."""
        try:
            for _ in range(most):
                self._change(client)
        except httpx.TransportError:
            return True
        return False

    def _change(self, client: httpx.Client) -> None:
        alive = self._history.alive()
        if alive and self._rng.random() < len(alive) / MOST_ALIVE:
            self._delete(client, self._rng.choice(alive)["id"])
        else:
            self._post(client, Post(self._draw(), wait=self._rng.random() < 0.7))

    def _draw(self) -> list[dict[str, Any]]:
        kinds = {
            "ike": lambda: [self._edit("ike", self._memory)],
            "rome": lambda: [self._edit("rome", self._weights)],
            "list": lambda: [
                *(case.edit("memit") for case in self._rng.sample(self._weights, 2)),
                self._edit("ike", self._memory),
            ],
        }
        return kinds[self._rng.choice(list(kinds))]()

    def _edit(self, method: str, cases: Sequence[Case]) -> dict[str, Any]:
        case, other = self._rng.choice(cases), self._rng.choice(cases)
        return case.edit(method, target_new=self._rng.choice((case, other)).target_new)

    def _post(self, client: httpx.Client, post: Post) -> None:
        self._history.pending = post
        reply = client.post("/v1/edits", json={"edits": post.edits, "wait": post.wait})
        assert reply.is_success, reply.text
        self._history.acknowledge(reply.json()["data"])

    def _delete(self, client: httpx.Client, edit_id: str) -> None:
        self._history.pending = Delete(edit_id)
        reply = client.delete(f"/v1/edits/{edit_id}")
        if reply.is_success:
            self._history.acknowledge([reply.json()])
        else:
            # It had failed since, or the rest of its batch cannot do without it.
            code = reply.json()["error"]["code"]
            assert code in ("edit_failed", "target_not_reached"), reply.text
            self._history.acknowledge([])
