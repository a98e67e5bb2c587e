"""The routes of /v1/edits."""

import asyncio

from fastapi import Request
from starlette.responses import JSONResponse, Response

from vllm_edit.api.body import read_submission
from vllm_edit.api.listing import AuditQuery, EditListQuery, ErasureQuery, read_query
from vllm_edit.api.openapi import body_docs, query_docs
from vllm_edit.api.routers import change_router, errors_docs, read_router, viewer_of
from vllm_edit.api.schemas import Batch, ChangeOut, ChangePage, EditIn, EditList, EditOut, EditPage
from vllm_edit.api.tenant_limits import require_room
from vllm_edit.domain.edit import Edit
from vllm_edit.domain.edit_query import page
from vllm_edit.domain.errors import Unauthorized, unknown_edit
from vllm_edit.request.edit_state import edit_state_of
from vllm_edit.security.access import ADMIN_HEADER
from vllm_edit.service.commands import RollBack, Submit
from vllm_edit.service.service import EditService

read_routes = read_router("/v1/edits")
change_routes = change_router("/v1/edits")

_AT_ONCE = 50
"""Edits that are written out before other requests have their turn."""


@change_routes.post(
    "",
    status_code=202,
    response_model=EditOut | EditList,
    openapi_extra=body_docs(EditIn | list[EditIn] | Batch),
    responses={
        200: {
            "model": EditOut | EditList,
            "description": "With wait: each edit when it is active or has failed.",
        },
        **errors_docs(
            {
                400: "The edit is not valid; nothing was changed.",
                404: "There is no such edit set; nothing was changed.",
                409: "The set is frozen, its tenant has too many edits, or two edits exclude each "
                "other; nothing was changed.",
                413: "The body is too long; nothing was changed.",
            }
        ),
    },
)
async def create_edits(request: Request) -> Response:
    """Correct one fact or several: recorded at once, effective as soon as they are active."""
    state = edit_state_of(request)
    submission = await read_submission(request, state.settings)
    require_room(state, submission.requests)
    edits = await state.member.change_edits(Submit([*submission.requests], submission.wait))
    out = [_out(state.service, edit) for edit in edits]
    body = EditList(data=out) if submission.many else out[0]
    return JSONResponse(body.model_dump(), status_code=200 if submission.wait else 202)


@read_routes.get(
    "",
    response_model=EditPage,
    openapi_extra=query_docs(EditListQuery),
    responses=errors_docs({400: "A parameter is not understood.", 404: "No edit has that id."}),
)
async def list_edits(request: Request) -> Response:
    """A page of the edits that the client may see, those that have ended included."""
    state = edit_state_of(request)
    asked = read_query(request, EditListQuery)
    sees = viewer_of(request).edit_filter(state.service.edit_sets())
    after = None if asked.after is None else state.service.get(asked.after)
    if after is not None and not sees(after):
        raise unknown_edit(after.id)
    # In a thread, as a filter may have to look at all edits.
    edits, more = await asyncio.to_thread(page, state.service.edits(), asked.query(), sees, after)
    out = []
    for edit in edits:
        out.append(_out(state.service, edit).model_dump())
        if len(out) % _AT_ONCE == 0:
            await asyncio.sleep(0)
    return JSONResponse({"object": "list", "data": out, "has_more": more})


@read_routes.get(
    "/audit",
    response_model=ChangePage,
    openapi_extra=query_docs(AuditQuery),
    responses=errors_docs({400: "A parameter is not understood."}),
)
async def list_changes(request: Request) -> Response:
    """Who changed what, oldest first; for the administrator only."""
    state = edit_state_of(request)
    if not viewer_of(request).administrator:
        raise Unauthorized(
            "Who changed what is shown to the administrator only: send the admin key in "
            f"{ADMIN_HEADER} or as Authorization: Bearer."
        )
    asked = read_query(request, AuditQuery)
    events = await state.service.history(asked.after, asked.limit + 1, asked.subject)
    shown = [ChangeOut.model_validate(e, from_attributes=True) for e in events[: asked.limit]]
    changes = ChangePage(data=shown, has_more=len(events) > asked.limit)
    return JSONResponse(changes.model_dump())


@read_routes.get(
    "/{edit_id}",
    response_model=EditOut,
    responses=errors_docs({404: "No edit has that id."}),
)
async def get_edit(request: Request, edit_id: str) -> Response:
    """One edit and its status."""
    state = edit_state_of(request)
    edit = state.service.get(edit_id)
    sees = viewer_of(request).edit_filter(state.service.edit_sets())
    if not sees(edit):
        raise unknown_edit(edit_id)
    return JSONResponse(_out(state.service, edit).model_dump())


@change_routes.delete(
    "/{edit_id}",
    response_model=EditOut,
    openapi_extra=query_docs(ErasureQuery),
    responses=errors_docs(
        {
            400: "The parameter is not understood.",
            404: "No edit has that id.",
            409: "It is not in effect, so it cannot be taken back.",
            500: "The rest of its batch could not be computed without it; nothing was changed.",
        }
    ),
)
async def roll_back_edit(request: Request, edit_id: str) -> Response:
    """Take an edit back; the response comes when it is no longer in effect."""
    state = edit_state_of(request)
    erase = read_query(request, ErasureQuery).erase == "true"
    (edit,) = await state.member.change_edits(RollBack(edit_id, erase))
    return JSONResponse(_out(state.service, edit).model_dump())


def _out(service: EditService, edit: Edit) -> EditOut:
    return EditOut.of(
        edit,
        service.warnings(edit.id),
        service.drift(edit.id),
        service.neurons(edit.id),
        service.told(edit.id),
    )
