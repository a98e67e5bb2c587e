"""The routes of /v1/edit-sets."""

from typing import Any

from fastapi import Request
from starlette.responses import JSONResponse, Response

from vllm_edit.api.body import read_json, validated
from vllm_edit.api.openapi import body_schema
from vllm_edit.api.routers import (
    changing_router,
    errors_docs,
    member_of,
    reading_router,
    service_of,
)
from vllm_edit.api.schemas import EditSetIn, EditSetList, EditSetOut, EditSetPatch
from vllm_edit.api.visibility import sees
from vllm_edit.domain.edit_set import EditSet
from vllm_edit.domain.errors import InvalidEditSet, unknown_edit_set
from vllm_edit.security.tenants import Tenants

reading = reading_router("/v1/edit-sets")
changing = changing_router("/v1/edit-sets")

_UNKNOWN = {404: "There is no such edit set."}


def _body(schema: type[Any]) -> dict[str, Any]:
    content = {"application/json": {"schema": body_schema(schema)}}
    return {"requestBody": {"required": True, "content": content}}


@changing.post(
    "",
    status_code=201,
    response_model=EditSetOut,
    openapi_extra=_body(EditSetIn),
    responses=errors_docs(
        {
            400: "The name or the owner cannot be.",
            409: "There is one of that name.",
            413: "The body is too long; nothing was changed.",
        }
    ),
)
async def create_edit_set(request: Request) -> Response:
    """Make an empty set; post edits into it with their field `edit_set`."""
    told = validated(EditSetIn, await read_json(request))
    tenants: Tenants = request.app.state.edit_front.tenants
    if told.owner is not None and told.owner not in tenants:
        raise InvalidEditSet(
            f"This server knows no tenant {told.owner!r}; add a key of theirs to the file of "
            "--edit-tenant-keys and start it again.",
            field="owner",
        )
    probes = told.probes.probes() if told.probes else None
    made = await member_of(request).create_set(told.name, told.owner, probes)
    return JSONResponse(_out(request, made).model_dump(), status_code=201)


@reading.get("", response_model=EditSetList)
async def list_edit_sets(request: Request) -> Response:
    """All edit sets that the client may see, oldest first."""
    service = service_of(request)
    see = sees(request)
    found = [_out(request, edit_set) for edit_set in service.edit_sets() if see(edit_set)]
    return JSONResponse(EditSetList(data=found).model_dump())


@reading.get("/{name}", response_model=EditSetOut, responses=errors_docs(_UNKNOWN))
async def get_edit_set(request: Request, name: str) -> Response:
    """One edit set."""
    edit_set = service_of(request).edit_set(name)
    if not sees(request)(edit_set):
        raise unknown_edit_set(name)
    return JSONResponse(_out(request, edit_set).model_dump())


@changing.patch(
    "/{name}",
    response_model=EditSetOut,
    openapi_extra=_body(EditSetPatch),
    responses=errors_docs(
        {
            **_UNKNOWN,
            400: "The body is not understood; nothing was changed.",
            409: "Default traffic cannot see this set, or probes of its edits were answered "
            "badly there; nothing was changed.",
            413: "The body is too long; nothing was changed.",
            500: "The engine refused; everything is as it was.",
        }
    ),
)
async def change_edit_set(request: Request, name: str) -> Response:
    """Activate a set for default traffic or deactivate it; freeze or thaw it."""
    service = service_of(request)
    told = validated(EditSetPatch, await read_json(request))
    edit_set = service.edit_set(name)
    if told.active is not None:
        edit_set = await member_of(request).activate_set(name, told.active)
    if told.frozen is not None:
        edit_set = await member_of(request).freeze_set(name, told.frozen)
    return JSONResponse(_out(request, edit_set).model_dump())


@changing.delete(
    "/{name}",
    response_model=EditSetOut,
    responses=errors_docs(
        {
            **_UNKNOWN,
            409: "The set is frozen or in use; nothing was changed.",
            500: "The engine refused; everything is as it was.",
        }
    ),
)
async def delete_edit_set(request: Request, name: str) -> Response:
    """Take back all edits of a set at once, and end it."""
    ended = await member_of(request).delete_set(name)
    return JSONResponse(_out(request, ended).model_dump())


def _out(request: Request, edit_set: EditSet) -> EditSetOut:
    reasons = request.app.state.edit_front.names.reasons
    return EditSetOut.of(edit_set, reasons.get(edit_set.name))
