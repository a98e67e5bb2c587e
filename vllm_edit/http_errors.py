"""Errors over HTTP: the status of each class, and the shape of the body."""

import math
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse

from vllm_edit.domain import errors
from vllm_edit.domain.errors import EditError, Overloaded, Unauthorized

STATUS: Mapping[type[EditError], int] = {
    errors.InvalidEdit: 400,
    errors.InvalidEditSet: 400,
    errors.InvalidSplit: 400,
    errors.InvalidChoice: 400,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.Unknown: 404,
    errors.ConflictingState: 409,
    errors.AnsweredBadly: 409,
    errors.NoSpareUnits: 409,
    errors.InvalidTrainingData: 400,
    errors.InvalidData: 400,
    errors.BodyTooLarge: 413,
    errors.RateLimited: 429,
    errors.ComputeFailed: 500,
    errors.SwapFailed: 500,
    errors.InternalError: 500,
    errors.StoreError: 500,
    errors.CounterfactualFailed: 502,
    errors.Unavailable: 503,
    errors.Overloaded: 503,
}
"""The HTTP status of each class; a subclass without an entry has its parent's."""


def status_of(error: EditError) -> int:
    """The HTTP status of an error."""
    for kind in type(error).__mro__:
        if kind in STATUS:
            return STATUS[kind]
    return 500


def error_response(error: EditError) -> JSONResponse:
    """The response to an error, in the shape of OpenAI's API."""
    body = {
        "message": error.message,
        "type": type(error).__name__,
        "param": error.field,
        "code": error.code,
    }
    return JSONResponse({"error": body}, status_of(error), headers_of(error))


def headers_of(error: EditError) -> dict[str, str]:
    """The headers that HTTP asks for with some statuses."""
    if isinstance(error, Unauthorized):
        return {"www-authenticate": "Bearer"}
    if isinstance(error, Overloaded):
        return {"retry-after": str(math.ceil(error.retry_after))}
    return {}


async def answer_error(_: Request, error: Exception) -> JSONResponse:
    """Handle EditError in a FastAPI app."""
    if not isinstance(error, EditError):
        raise error
    return error_response(error)
