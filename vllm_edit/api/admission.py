"""The check in front of every route that changes edits: may this client, and may it now?"""

from fastapi import Depends, Request
from fastapi.security import APIKeyHeader, HTTPBearer

from vllm_edit.request.edit_state import edit_state_of
from vllm_edit.security.access import ADMIN_HEADER, sent_admin_key, was_forwarded

KEY_SCHEMES = (
    Depends(APIKeyHeader(name=ADMIN_HEADER, scheme_name="EditAdminKey", auto_error=False)),
    Depends(HTTPBearer(scheme_name="EditAdminKeyAsBearer", auto_error=False)),
)
"""How OpenAPI describes the two ways to send the admin key.

It has a header of its own, so that vLLM's ``--api-key`` can have the other.
"""


async def check_admission(request: Request) -> None:
    """Check that a client may make a change, before its body is read.

    Raises:
        Unauthorized, Forbidden: see `Access.check`.
        RateLimited: this client has sent too many changes.
        Unavailable: the server takes no edits.
    """
    state = edit_state_of(request)
    headers = request.headers
    state.access.check(sent_admin_key(headers), headers.get("origin"), was_forwarded(headers))
    state.limiter.admit(request.client.host if request.client else "")
