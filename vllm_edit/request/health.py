"""Whether the server can serve, for what watches over it."""

from starlette.types import ASGIApp, Receive, Scope, Send

from vllm_edit.domain.errors import Unavailable
from vllm_edit.http_errors import error_response
from vllm_edit.request.edit_state import EditState, find_edit_state

HEALTH_PATHS = frozenset({"/health", "/ping"})
"""vLLM's own, by which an orchestrator sees whether to start the server again."""


def require_healthy(state: EditState) -> None:
    """Raise Unavailable if only another start of the server can help.

    What the log says of it is not repeated: everyone may ask.
    """
    if state.served.stopped:
        raise Unavailable(
            "The engine is stopped, since a swap of weights could not be ended. Start the server "
            "again: it serves the edits that were in effect. Its log says what went wrong.",
            code="serving_stopped",
        )
    if state.member.replaced:
        raise Unavailable(
            "The edit store was restored from a backup or replaced. Start the server again: it "
            "serves what the store holds now.",
            code="store_replaced",
        )


def require_ready(state: EditState) -> None:
    """Raise Unavailable if requests should go to another server for now."""
    require_healthy(state)
    if state.service.astray:
        raise Unavailable(
            "Something else may be served than what is recorded; the server is putting that "
            "right. Its log says what went wrong.",
            code="astray",
        )


class HealthMiddleware:
    """Has vLLM's own health checks fail while the server is not healthy."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] in HEALTH_PATHS:
            state = find_edit_state(scope["app"].state)
            try:
                if state is not None:
                    require_healthy(state)
            except Unavailable as error:
                await error_response(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)
