"""The model that answers in the place of the served one."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from starlette.types import Receive, Send

from retriever import Fact


class CounterfactualModel(Protocol):
    """SERAC's counterfactual model."""

    async def start(self) -> None:
        """Connect to it, and start it if need be; raises EditError."""

    async def answer(
        self,
        path: str,
        request: Mapping[str, Any],
        facts: Sequence[Fact],
        send: Send,
        receive: Receive | None = None,
    ) -> None:
        """Answer a request to the path from these facts; raise EditError before anything is sent.

        With ``receive``, stop the model when the client leaves.
        """

    async def close(self) -> None:
        """Release the model."""
