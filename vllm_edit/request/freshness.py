"""Read your writes: a request that asks for a revision waits until it is in effect."""

import asyncio

from starlette.datastructures import Headers

from vllm_edit.domain.errors import InvalidChoice, RevisionNotReached
from vllm_edit.service.service import EditService

MIN_REVISION_HEADER = "x-edit-min-revision"
WAIT_SECONDS = 10.0


async def require_revision(service: EditService, headers: Headers) -> None:
    """Wait until the revision that the request asks for, if any, is in effect.

    Raises:
        InvalidChoice: the header holds no revision.
        RevisionNotReached: the revision did not come into effect within `WAIT_SECONDS`.
    """
    text = headers.get(MIN_REVISION_HEADER)
    if text is None:
        return
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise InvalidChoice(
            f"{MIN_REVISION_HEADER} must be a revision, a whole number.", code="bad_revision"
        )
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            await service.reached(int(text))
    except TimeoutError as error:
        raise RevisionNotReached(
            f"This server has revision {service.served_revision} in effect and not yet {text}; "
            "ask again later, or the server that made the change."
        ) from error
