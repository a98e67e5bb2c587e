"""The routes of /v1/edit-split: the A/B rule of default traffic."""

from fastapi import Request
from starlette.responses import JSONResponse, Response

from vllm_edit.api.body import read_json, validated
from vllm_edit.api.routers import (
    changing_router,
    errors_docs,
    member_of,
    reading_router,
    service_of,
)
from vllm_edit.api.schemas import SplitIn, SplitOut
from vllm_edit.domain.errors import UnknownSplit
from vllm_edit.domain.traffic_split import TrafficSplit

reading = reading_router("/v1/edit-split")
changing = changing_router("/v1/edit-split")

_NONE = {404: "Default traffic is not split."}


@changing.put(
    "",
    response_model=SplitOut,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": SplitIn.model_json_schema()}},
        }
    },
    responses=errors_docs(
        {
            400: "There can be no such split; nothing was changed.",
            404: "There is no such variant; nothing was changed.",
            413: "The body is too long; nothing was changed.",
        }
    ),
)
async def put_split(request: Request) -> Response:
    """Split the traffic that does not choose over variants, by weights."""
    told = validated(SplitIn, await read_json(request))
    split = TrafficSplit(told.weights, told.by)
    await member_of(request).set_split(split)
    return _answer(split)


@reading.get("", response_model=SplitOut, responses=errors_docs(_NONE))
async def get_split(request: Request) -> Response:
    """The split that is in force."""
    return _answer(_split(request))


@changing.delete("", response_model=SplitOut, responses=errors_docs(_NONE))
async def delete_split(request: Request) -> Response:
    """Show default traffic the default variant again."""
    split = _split(request)
    await member_of(request).set_split(None)
    return _answer(split)


def _split(request: Request) -> TrafficSplit:
    split = service_of(request).split
    if split is None:
        raise UnknownSplit("Default traffic is not split; PUT /v1/edit-split makes a split.")
    return split


def _answer(split: TrafficSplit) -> Response:
    return JSONResponse(SplitOut(weights=dict(split.weights), by=split.by).model_dump())
