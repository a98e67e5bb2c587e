"""Who makes a change, for the audit log."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Actor:
    """The name of the key that a request sent, the client's address, and the request's id.

    ``key`` is empty for a request without a key.
    """

    key: str
    client: str
    request: str


_acting: ContextVar[Actor | None] = ContextVar("acting", default=None)


@contextmanager
def acting(actor: Actor | None) -> Iterator[None]:
    """What is recorded in this context, and in tasks and threads begun in it, is the actor's."""
    token = _acting.set(actor)
    try:
        yield
    finally:
        _acting.reset(token)


def current_actor() -> Actor | None:
    """Whoever makes the change that is being recorded; None for the server itself."""
    return _acting.get()
