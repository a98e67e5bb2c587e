"""An answer that is kept back if it refuses the request."""

from collections.abc import Callable

from starlette.types import Message, Send

_REFUSED = frozenset({400, 413, 422})


class HeldRefusal:
    """Sends an answer, but not one that says that the request is wrong.

    ``accepted`` is called when another answer begins.
    """

    def __init__(self, send: Send, accepted: Callable[[], None]) -> None:
        self._send = send
        self._accepted = accepted
        self.refused = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.refused = message["status"] in _REFUSED
            if not self.refused:
                self._accepted()
        if not self.refused:
            await self._send(message)
