"""How long a swap waits, for what."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Deadlines:
    """In seconds.

    The engine must answer each step of a swap within ``answer``. Requests have ``requests`` to end
    where a swap waits for them: those of a variant that it ends, and in the pause mode ``wait``
    all of them.
    """

    answer: float = 60.0
    requests: float = 60.0
