"""How often a client may change edits: a token bucket for each client."""

import time
from collections.abc import Callable

from vllm_edit.domain.errors import RateLimited

BURST_SECONDS = 10.0
"""A quiet client may send the requests of so many seconds at once."""

_MAX_CLIENTS = 10_000


class RateLimiter:
    """Admits each client ``rate`` times a second on average (0: without a limit).

    ``clock`` returns seconds that never decrease.
    """

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = 1.0 / rate if rate > 0 else 0.0
        self._burst = max(BURST_SECONDS, self._interval)
        self._clock = clock
        # When each client's bucket is full again; clients without an entry have a full one.
        self._full_at: dict[str, float] = {}

    def admit(self, client: str) -> None:
        """Take one token; raises RateLimited, with the seconds to wait, if none is left."""
        now = self._clock()
        full_at = max(self._full_at.get(client, now), now) + self._interval
        wait = full_at - now - self._burst
        if wait > 0:
            raise RateLimited(
                f"Too many changes at once: wait {wait:.1f} s. One list can hold many edits; "
                "--edit-max-rate sets how many requests a second are taken.",
                retry_after=wait,
            )
        self._full_at[client] = full_at
        if len(self._full_at) > _MAX_CLIENTS:
            self._full_at = {name: at for name, at in self._full_at.items() if at > now}
