"""The routes of /v1/edit-sets."""

from fastapi import Request
from starlette.responses import JSONResponse, Response

from vllm_edit.api.body import read_body
from vllm_edit.api.openapi import body_docs
from vllm_edit.api.routers import change_router, errors_docs, read_router, viewer_of
from vllm_edit.api.schemas import EditSetIn, EditSetList, EditSetOut, EditSetPatch
from vllm_edit.domain.edit_set import EditSet
from vllm_edit.domain.errors import InvalidEditSet, unknown_edit_set
from vllm_edit.request.edit_state import EditState, edit_state_of
from vllm_edit.service.commands import ActivateSet, CreateSet, DeleteSet, FreezeSet

read_routes = read_router("/v1/edit-sets")
change_routes = change_router("/v1/edit-sets")

_UNKNOWN = {404: "There is no such edit set."}


@change_routes.post(
    "",
    status_code=201,
    response_model=EditSetOut,
    openapi_extra=body_docs(EditSetIn),
    responses=errors_docs(
        {
            400: "The name or the owner is not valid.",
            409: "A set of that name exists.",
            413: "The body is too long; nothing was changed.",
        }
    ),
)
async def create_edit_set(request: Request) -> Response:
    """Make an empty set; edits join it by their field `edit_set`."""
    state = edit_state_of(request)
    body = await read_body(request, EditSetIn, state.settings)
    if body.owner is not None and body.owner not in state.tenants:
        raise InvalidEditSet(
            f"This server knows no tenant {body.owner!r}; add a key of theirs to the file of "
            "--edit-tenant-keys and start it again.",
            field="owner",
        )
    probes = body.probes.probes() if body.probes else None
    edit_set = await state.member.change_set(CreateSet(body.name, body.owner, probes))
    return JSONResponse(_out(state, edit_set).model_dump(), status_code=201)


@read_routes.get("", response_model=EditSetList)
async def list_edit_sets(request: Request) -> Response:
    """All edit sets that the client may see, oldest first."""
    state = edit_state_of(request)
    visible = filter(viewer_of(request).sees, state.service.edit_sets())
    edit_sets = EditSetList(data=[_out(state, edit_set) for edit_set in visible])
    return JSONResponse(edit_sets.model_dump())


@read_routes.get("/{name}", response_model=EditSetOut, responses=errors_docs(_UNKNOWN))
async def get_edit_set(request: Request, name: str) -> Response:
    """One edit set."""
    state = edit_state_of(request)
    edit_set = state.service.edit_set(name)
    if not viewer_of(request).sees(edit_set):
        raise unknown_edit_set(name)
    return JSONResponse(_out(state, edit_set).model_dump())


@change_routes.patch(
    "/{name}",
    response_model=EditSetOut,
    openapi_extra=body_docs(EditSetPatch),
    responses=errors_docs(
        {
            **_UNKNOWN,
            400: "The body is not understood; nothing was changed.",
            409: "Default traffic cannot see this set, or its edits failed their probes there; "
            "nothing was changed.",
            413: "The body is too long; nothing was changed.",
            500: "The engine refused; everything is as it was.",
        }
    ),
)
async def change_edit_set(request: Request, name: str) -> Response:
    """Activate or deactivate a set for default traffic; freeze or thaw it."""
    state = edit_state_of(request)
    body = await read_body(request, EditSetPatch, state.settings)
    edit_set = state.service.edit_set(name)
    if body.active is not None:
        edit_set = await state.member.change_set(ActivateSet(name, body.active))
    if body.frozen is not None:
        edit_set = await state.member.change_set(FreezeSet(name, body.frozen))
    return JSONResponse(_out(state, edit_set).model_dump())


@change_routes.delete(
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
    """Take back all edits of a set at once, and delete it."""
    state = edit_state_of(request)
    edit_set = await state.member.change_set(DeleteSet(name))
    return JSONResponse(_out(state, edit_set).model_dump())


def _out(state: EditState, edit_set: EditSet) -> EditSetOut:
    return EditSetOut.of(edit_set, state.names.reasons.get(edit_set.name))
