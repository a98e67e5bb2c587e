"""The routes of /v1/edits."""

from typing import Any

from fastapi import Request
from starlette.responses import JSONResponse, Response

from vllm_edit.api.body import read_submission
from vllm_edit.api.openapi import body_schema
from vllm_edit.api.routers import (
    changing_router,
    errors_docs,
    member_of,
    reading_router,
    service_of,
)
from vllm_edit.api.schemas import Batch, EditIn, EditList, EditOut
from vllm_edit.api.visibility import visible_edits
from vllm_edit.domain.edit import Edit
from vllm_edit.domain.errors import unknown_edit
from vllm_edit.service.service import EditService
from vllm_edit.settings import Settings

_EDIT_SCHEMA = body_schema(EditIn)
_BATCH_SCHEMA = body_schema(Batch)
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


reading = reading_router("/v1/edits")
changing = changing_router("/v1/edits")


@changing.post(
    "",
    status_code=202,
    response_model=EditOut | EditList,
    openapi_extra=_BODY_DOCS,
    responses={
        200: {"model": EditOut | EditList, "description": "With wait: how each edit ended."},
        **errors_docs(
            {
                400: "The edit breaks a rule; nothing was changed.",
                404: "There is no such edit set; nothing was changed.",
                409: "The set takes no edits, or contradicts another; nothing was changed.",
                413: "The body is too long; nothing was changed.",
            }
        ),
    },
)
async def create_edits(request: Request) -> Response:
    """Correct one fact or several: recorded at once, effective as soon as they are active."""
    settings: Settings = request.app.state.edit_settings
    body = await read_submission(request, settings.max_body_bytes, settings.max_batch)
    service = service_of(request)
    edits = await member_of(request).submit(body.requests, wait=body.wait)
    out = [_out(service, edit) for edit in edits]
    answer = EditList(data=out) if body.many else out[0]
    return JSONResponse(answer.model_dump(), status_code=200 if body.wait else 202)


@reading.get("", response_model=EditList)
async def list_edits(request: Request) -> Response:
    """All edits ever posted that the client may see, oldest first."""
    service = service_of(request)
    visible = visible_edits(request, service)
    edits = EditList(data=[_out(service, edit) for edit in service.edits() if visible(edit)])
    return JSONResponse(edits.model_dump())


@reading.get(
    "/{edit_id}",
    response_model=EditOut,
    responses=errors_docs({404: "No edit has that id."}),
)
async def get_edit(request: Request, edit_id: str) -> Response:
    """One edit and its status."""
    service = service_of(request)
    edit = service.get(edit_id)
    if not visible_edits(request, service)(edit):
        raise unknown_edit(edit_id)
    return JSONResponse(_out(service, edit).model_dump())


@changing.delete(
    "/{edit_id}",
    response_model=EditOut,
    responses=errors_docs(
        {
            404: "No edit has that id.",
            409: "It is not in effect, so it cannot be taken back.",
            500: "The rest of its batch cannot do without it; it is as it was.",
        }
    ),
)
async def roll_back_edit(request: Request, edit_id: str) -> Response:
    """Take an edit back; the answer comes when it is no longer in effect."""
    service = service_of(request)
    edit = await member_of(request).roll_back(edit_id)
    return JSONResponse(_out(service, edit).model_dump())


def _out(service: EditService, edit: Edit) -> EditOut:
    return EditOut.of(edit, service.warnings(edit.id), service.drift(edit.id))
