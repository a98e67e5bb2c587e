"""The routes of /v1/edits."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import JSONResponse, Response

from vllm_edit.api.body import read_submission
from vllm_edit.api.errors import error_response
from vllm_edit.api.schemas import Batch, EditIn, EditList, EditOut
from vllm_edit.errors import EditError, Unavailable
from vllm_edit.service import EditService
from vllm_edit.settings import Settings


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Stop the service with the server it was built for."""
    yield
    service: EditService | None = getattr(app.state, "edit_service", None)
    if service is not None:
        await service.stop()


router = APIRouter(prefix="/v1/edits", tags=["edits"], lifespan=_lifespan)

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


@router.post(
    "",
    status_code=202,
    response_model=EditOut | EditList,
    openapi_extra=_BODY_DOCS,
    responses={
        200: {"model": EditOut | EditList, "description": "With wait: how each edit ended."},
        400: {"description": "The edit breaks a rule; nothing was changed."},
        413: {"description": "The body is too long; nothing was changed."},
    },
)
async def create_edits(request: Request) -> Response:
    """Correct one fact or several: recorded at once, effective as soon as they are active."""
    try:
        settings: Settings = request.app.state.edit_settings
        body = await read_submission(request, settings.max_body_bytes, settings.max_batch)
        edits = await _service(request).submit(body.requests, wait=body.wait)
    except EditError as error:
        return error_response(error)
    out = EditList.of(edits) if body.many else EditOut.of(edits[0])
    return JSONResponse(out.model_dump(), status_code=200 if body.wait else 202)


@router.get("", response_model=EditList)
async def list_edits(request: Request) -> Response:
    """All edits ever posted, oldest first."""
    try:
        return JSONResponse(EditList.of(_service(request).edits()).model_dump())
    except EditError as error:
        return error_response(error)


@router.get(
    "/{edit_id}",
    response_model=EditOut,
    responses={404: {"description": "No edit has that id."}},
)
async def get_edit(request: Request, edit_id: str) -> Response:
    """One edit and its status."""
    try:
        return JSONResponse(EditOut.of(_service(request).get(edit_id)).model_dump())
    except EditError as error:
        return error_response(error)


@router.delete(
    "/{edit_id}",
    response_model=EditOut,
    responses={
        404: {"description": "No edit has that id."},
        409: {"description": "It is not in effect, so it cannot be taken back."},
        500: {"description": "The rest of its batch cannot do without it; it is as it was."},
    },
)
async def roll_back_edit(request: Request, edit_id: str) -> Response:
    """Take an edit back; the answer comes when it is no longer in effect."""
    try:
        return JSONResponse(EditOut.of(await _service(request).roll_back(edit_id)).model_dump())
    except EditError as error:
        return error_response(error)


def _service(request: Request) -> EditService:
    service: EditService | None = getattr(request.app.state, "edit_service", None)
    if service is None:
        raise Unavailable("This server has no engine, so it cannot take edits.")
    return service
