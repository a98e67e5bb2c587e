"""The routes of /v1/edit-split: the A/B rule of default traffic."""

from fastapi import Request
from starlette.responses import JSONResponse, Response

from vllm_edit.api.body import read_body
from vllm_edit.api.openapi import body_docs
from vllm_edit.api.routers import change_router, errors_docs, read_router
from vllm_edit.api.schemas import SplitIn, SplitOut
from vllm_edit.domain.errors import UnknownSplit
from vllm_edit.domain.traffic_split import TrafficSplit
from vllm_edit.request.edit_state import EditState, edit_state_of

read_routes = read_router("/v1/edit-split")
change_routes = change_router("/v1/edit-split")

_NO_SPLIT = {404: "Default traffic is not split."}


@change_routes.put(
    "",
    response_model=SplitOut,
    openapi_extra=body_docs(SplitIn),
    responses=errors_docs(
        {
            400: "The split is not valid; nothing was changed.",
            404: "There is no such variant; nothing was changed.",
            413: "The body is too long; nothing was changed.",
        }
    ),
)
async def put_split(request: Request) -> Response:
    """Split the traffic that does not choose a variant, by weights."""
    state = edit_state_of(request)
    body = await read_body(request, SplitIn, state.settings)
    split = TrafficSplit(body.weights, body.by)
    await state.member.set_split(split)
    return _response(split)


@read_routes.get("", response_model=SplitOut, responses=errors_docs(_NO_SPLIT))
async def get_split(request: Request) -> Response:
    """The split that is in force."""
    return _response(_split(edit_state_of(request)))


@change_routes.delete("", response_model=SplitOut, responses=errors_docs(_NO_SPLIT))
async def delete_split(request: Request) -> Response:
    """Stop splitting: default traffic sees the default variant again."""
    state = edit_state_of(request)
    split = _split(state)
    await state.member.set_split(None)
    return _response(split)


def _split(state: EditState) -> TrafficSplit:
    split = state.service.split
    if split is None:
        raise UnknownSplit("Default traffic is not split; PUT /v1/edit-split makes a split.")
    return split


def _response(split: TrafficSplit) -> Response:
    return JSONResponse(SplitOut(weights=dict(split.weights), by=split.by).model_dump())
