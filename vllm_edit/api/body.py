"""Bodies of requests: read up to a limit, and refused with the field at fault."""

import json
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from vllm_edit.api.schemas import Batch, EditIn
from vllm_edit.domain.edit import EditRequest
from vllm_edit.domain.errors import BodyTooLarge, InvalidEdit
from vllm_edit.settings import Settings

T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True)
class Submission:
    """The edits that a client posted; ``many`` if it sent a list, and so expects one."""

    requests: tuple[EditRequest, ...]
    wait: bool
    many: bool


async def read_submission(request: Request, settings: Settings) -> Submission:
    """Parse one edit, a list of edits, or ``{"edits": [...], "wait": ...}``.

    Raises:
        BodyTooLarge: the body is longer than the settings allow; reading stopped there.
        InvalidEdit: it is not JSON of that form, or holds no edit or more than are allowed.
    """
    value = await read_json(request, settings)
    batch = _batch(value)
    if not batch.edits:
        raise InvalidEdit("The list of edits is empty; send at least one.", code="empty")
    if len(batch.edits) > settings.max_batch:
        raise InvalidEdit(
            f"{len(batch.edits)} edits in one request, and at most {settings.max_batch} are "
            "accepted; send them in several requests.",
            code="too_many",
        )
    return Submission(
        requests=tuple(edit.request() for edit in batch.edits),
        wait=batch.wait or any(edit.wait for edit in batch.edits),
        many=not _is_single(value),
    )


async def read_body(request: Request, schema: type[T], settings: Settings) -> T:
    """The body in a schema; raises as `read_json` and `validated` do."""
    return validated(schema, await read_json(request, settings))


async def read_json(request: Request, settings: Settings) -> Any:
    """The JSON value in the body.

    Raises:
        BodyTooLarge: the body is longer than the settings allow; reading stopped there.
        InvalidEdit: it is not JSON.
    """
    body = await _read(request, settings.max_body_bytes)
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidEdit(f"The body is not JSON: {error}.", code="malformed") from error


def validated(schema: type[T], value: Any) -> T:
    """The value in its schema; raises InvalidEdit, with the field at fault, if it does not fit."""
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        raise _malformed(error, f"Fields are {', '.join(schema.model_fields)}.") from error


async def _read(request: Request, max_bytes: int) -> bytes:
    chunks = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            raise BodyTooLarge(
                f"The body is longer than the {max_bytes} bytes this server accepts; send fewer "
                "edits at a time or raise --edit-max-body-bytes."
            )
        chunks.append(chunk)
    return b"".join(chunks)


def _is_single(value: object) -> bool:
    return isinstance(value, dict) and "edits" not in value


def _batch(value: Any) -> Batch:
    try:
        if _is_single(value):
            return Batch(edits=[EditIn.model_validate(value)])
        if isinstance(value, list):
            return Batch(edits=[EditIn.model_validate(item) for item in value])
        return Batch.model_validate(value)
    except ValidationError as error:
        raise _malformed(
            error,
            "An edit has method, prompt, subject and target_new, and may have ground_truth, "
            "aliases, user, edit_set, pause_mode, probes, keep and wait.",
        ) from error


def _malformed(error: ValidationError, advice: str) -> InvalidEdit:
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return InvalidEdit(
        f"{place or 'The body'}: {first['msg']}. {advice}", code="malformed", field=place or None
    )
