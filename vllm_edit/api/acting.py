"""Names whoever makes a change, so that the ledger can tell."""

from collections.abc import AsyncIterator

from fastapi import Request

from vllm_edit.domain.actor import Actor, acting
from vllm_edit.request.edit_state import edit_state_of
from vllm_edit.security.access import sent_admin_key

REQUEST_HEADER = "x-request-id"
_MOST_CHARS = 128


async def act(request: Request) -> AsyncIterator[None]:
    """Record what the request changes as its sender's; raises Unavailable without an engine."""
    client = request.client.host if request.client else ""
    request_id = request.headers.get(REQUEST_HEADER, "")[:_MOST_CHARS]
    key = edit_state_of(request).access.sent(sent_admin_key(request.headers))
    with acting(Actor(key.name if key else "", client, request_id)):
        yield
