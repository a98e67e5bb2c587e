"""The routes of /v1/edits: those that change something are in a router of their own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from starlette.responses import JSONResponse, Response

from vllm_edit.api.admission import admit_change
from vllm_edit.api.body import read_submission
from vllm_edit.api.errors import answer_error, no_engine
from vllm_edit.api.schemas import Batch, EditIn, EditList, EditOut, ErrorOut
from vllm_edit.edit import Edit
from vllm_edit.errors import EditError
from vllm_edit.service import EditService
from vllm_edit.settings import Settings


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Stop the service with the server it was built for."""
    yield
    service: EditService | None = getattr(app.state, "edit_service", None)
    if service is not None:
        await service.stop()


_EDIT_SCHEMA = EditIn.model_json_schema()
_BATCH_SCHEMA = Batch.model_json_schema()
_BATCH_SCHEMA.pop("$defs")
_BATCH_SCHEMA["properties"]["edits"]["items"] = _EDIT_SCHEMA
_BODY_DOCS: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "anyOf": [
                        _EDIT_SCHEMA,
                        {"type": "array", "items": _EDIT_SCHEMA},
                        _BATCH_SCHEMA,
                    ]
                }
            }
        },
    }
}


def _errors(descriptions: dict[int, str]) -> dict[int | str, dict[str, Any]]:
    return {k: {"model": ErrorOut, "description": text} for k, text in descriptions.items()}


_NO_ENGINE = _errors({503: "This server takes no edits."})

reading = APIRouter(prefix="/v1/edits", tags=["edits"], responses=_NO_ENGINE)
"""Routes that change nothing."""

changing = APIRouter(
    prefix="/v1/edits",
    tags=["edits"],
    dependencies=[Depends(admit_change)],
    responses=_errors(
        {
            401: "The request lacks the admin key of this server.",
            403: "This server has no admin key, and takes changes from its own machine only.",
            429: "This client asks for too many changes; Retry-After says when to go on.",
            503: "This server takes no edits, or, with Retry-After, none now.",
        }
    ),
)
"""Routes that change something: whoever asks must be admitted first."""


@changing.post(
    "",
    status_code=202,
    response_model=EditOut | EditList,
    openapi_extra=_BODY_DOCS,
    responses={
        200: {"model": EditOut | EditList, "description": "With wait: how each edit ended."},
        **_errors(
            {
                400: "The edit breaks a rule; nothing was changed.",
                413: "The body is too long; nothing was changed.",
            }
        ),
    },
)
async def create_edits(request: Request) -> Response:
    """Correct one fact or several: recorded at once, effective as soon as they are active."""
    settings: Settings = request.app.state.edit_settings
    body = await read_submission(request, settings.max_body_bytes, settings.max_batch)
    service = _service(request)
    edits = await service.submit(body.requests, wait=body.wait)
    out = [_out(service, edit) for edit in edits]
    answer = EditList(data=out) if body.many else out[0]
    return JSONResponse(answer.model_dump(), status_code=200 if body.wait else 202)


@reading.get("", response_model=EditList)
async def list_edits(request: Request) -> Response:
    """All edits ever posted, oldest first."""
    service = _service(request)
    edits = EditList(data=[_out(service, edit) for edit in service.edits()])
    return JSONResponse(edits.model_dump())


@reading.get(
    "/{edit_id}",
    response_model=EditOut,
    responses=_errors({404: "No edit has that id."}),
)
async def get_edit(request: Request, edit_id: str) -> Response:
    """One edit and its status."""
    service = _service(request)
    return JSONResponse(_out(service, service.get(edit_id)).model_dump())


@changing.delete(
    "/{edit_id}",
    response_model=EditOut,
    responses=_errors(
        {
            404: "No edit has that id.",
            409: "It is not in effect, so it cannot be taken back.",
            500: "The rest of its batch cannot do without it; it is as it was.",
        }
    ),
)
async def roll_back_edit(request: Request, edit_id: str) -> Response:
    """Take an edit back; the answer comes when it is no longer in effect."""
    service = _service(request)
    return JSONResponse(_out(service, await service.roll_back(edit_id)).model_dump())


router = APIRouter(lifespan=_lifespan)
"""All of them."""
router.include_router(reading)
router.include_router(changing)


def attach(app: FastAPI) -> None:
    """Add the routes to an app, and the answers to what they raise."""
    app.include_router(router)
    app.add_exception_handler(EditError, answer_error)


def _out(service: EditService, edit: Edit) -> EditOut:
    return EditOut.of(edit, service.warnings(edit.id))


def _service(request: Request) -> EditService:
    service: EditService | None = getattr(request.app.state, "edit_service", None)
    if service is None:
        raise no_engine()
    return service
