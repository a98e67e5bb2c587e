"""From the error tree to HTTP: one table, one shape."""

from collections.abc import Mapping

from starlette.responses import JSONResponse

from vllm_edit import errors
from vllm_edit.errors import EditError

STATUS: Mapping[type[EditError], int] = {
    errors.InvalidEdit: 400,
    errors.UnknownEdit: 404,
    errors.ConflictingState: 409,
    errors.BodyTooLarge: 413,
    errors.ComputeFailed: 500,
    errors.SwapFailed: 500,
    errors.StoreError: 500,
    errors.Unavailable: 503,
}
"""HTTP status of each class; a subclass without a row has its parent's."""


def status_of(error: EditError) -> int:
    """The status that an error is answered with."""
    for kind in type(error).__mro__:
        if kind in STATUS:
            return STATUS[kind]
    return 500


def error_response(error: EditError) -> JSONResponse:
    """The answer for an error, in the shape of OpenAI's API."""
    body = {
        "message": error.message,
        "type": type(error).__name__,
        "param": error.field,
        "code": error.code,
    }
    return JSONResponse({"error": body}, status_code=status_of(error))
