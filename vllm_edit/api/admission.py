"""What every route that changes something asks first: may this client, and may it now?"""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from vllm_edit.http_errors import no_engine
from vllm_edit.security.access import ADMIN_HEADER, Access
from vllm_edit.security.rate_limit import RateLimiter

_header = APIKeyHeader(name=ADMIN_HEADER, scheme_name="EditAdminKey", auto_error=False)
_bearer = HTTPBearer(scheme_name="EditAdminKeyAsBearer", auto_error=False)


async def admit_change(
    request: Request,
    key: Annotated[str | None, Depends(_header)],
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> None:
    """Let a change pass before anything of its body is read.

    The admin key comes in its own header, so that vLLM's ``--api-key`` can have the other.

    Raises:
        Unauthorized, Forbidden: see `Access.check`.
        RateLimited: this client has asked for too many changes.
        Unavailable: the server takes no edits.
    """
    access: Access | None = getattr(request.app.state, "edit_access", None)
    if access is None:
        raise no_engine()
    if key is None and bearer is not None:
        key = bearer.credentials
    # Header values are bytes, which Starlette shows as Latin-1.
    given = None if key is None else key.encode("latin-1")
    access.check(given, request.headers.get("origin"))
    limiter: RateLimiter = request.app.state.edit_limiter
    limiter.admit(request.client.host if request.client else "")
