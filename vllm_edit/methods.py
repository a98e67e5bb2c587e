"""What every kind of method can do to make edits effective."""

from collections.abc import Sequence
from typing import Any, Protocol

from vllm_edit.edit import Edit, EditRequest


class Method(Protocol):
    """One way for edits to take effect. The service calls ``apply`` and ``deactivate`` one at a
    time, ``compute`` of one method one at a time, and every other pair of calls concurrently."""

    names: frozenset[str]
    """The values of ``method`` in a request that it serves."""

    queued: bool
    """Whether computing takes long enough to be done after the request was answered."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the methods that shape every answer at the moment, whatever it asks."""

    def check(self, request: EditRequest) -> None:
        """Raise InvalidEdit if the request breaks a rule of this method's own."""

    async def prepare(self) -> None:
        """Load what a first edit would otherwise wait for."""

    async def restore(self, edits: Sequence[Edit], revision: int) -> None:
        """Bring a server that has just started to exactly these active edits.

        Raises:
            EditError: that cannot be done; the server must not serve.
        """

    async def compute(self, edits: Sequence[Edit]) -> Any:
        """What ``apply`` needs for these edits; changes nothing that is served.

        Raises:
            EditError: with the reason that the edits fail for.
        """

    async def apply(self, edits: Sequence[Edit], computed: Any, revision: int) -> None:
        """Make the edits effective under this revision, all or none.

        Raises:
            EditError: none of them is; what was in effect before still is.
        """

    async def deactivate(self, edit: Edit, revision: int) -> None:
        """Take an active edit back; raises EditError if it stays in effect."""

    async def close(self) -> None:
        """Release processes and files."""
