"""POST /v1/edits/route: what would become of a request, without generating anything."""

import json
from typing import Any

from fastapi import Request
from starlette.responses import JSONResponse, Response

from retriever import Decision, Decompose, Delegate, Messages, Pass
from vllm_edit.api.body import read_json, validated
from vllm_edit.api.routers import changing_router, errors_docs, service_of
from vllm_edit.api.schemas import RoutedEditOut, RouteIn, RouteOut
from vllm_edit.api.visibility import sees
from vllm_edit.domain.errors import InvalidEdit, UnknownVariant
from vllm_edit.domain.variant import DEFAULT, RESERVED
from vllm_edit.memory.routing_options import RoutingOptions
from vllm_edit.request import variant_selection as choice
from vllm_edit.request.edit_state import EditState

# It changes nothing, but says what is known: so it is for whoever may change it.
changing = changing_router("/v1/edits")


@changing.post(
    "/route",
    response_model=RouteOut,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": RouteIn.model_json_schema()}},
        }
    },
    responses=errors_docs(
        {
            400: "The body is not of this form, or chooses two variants.",
            404: "There is no such variant.",
            413: "The body is too long.",
            500: "The encoder or the scope classifier failed.",
        }
    ),
)
async def route_request(request: Request) -> Response:
    """Say which edits concern a text or a chat, and how it would be served."""
    body = validated(RouteIn, _plain(await read_json(request)))
    if (body.text is None) == (body.messages is None):
        raise InvalidEdit("Give either text or messages.", code="malformed", field="text")
    service = service_of(request)
    front: EditState = request.app.state.edit_front
    variant = _variant(request, front, body)
    content: str | Messages = body.messages or [] if body.text is None else body.text
    decision = await front.router.preview(
        content, RoutingOptions(variant, body.edit_hops, body.user)
    )
    out = _out(variant, service.served_revision, decision)
    return JSONResponse(out.model_dump())


def _plain(value: Any) -> Any:
    """The value, which can be sent back: NaN and halves of surrogate pairs cannot."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise InvalidEdit(f"The body is not JSON: {error}.", code="malformed") from error
    return value


def _variant(request: Request, front: EditState, body: RouteIn) -> str:
    asked = {"model": body.model, choice.FIELD: body.variant}
    variant = choice.chosen(front.names, asked, {})
    if variant is None:
        return DEFAULT
    see = sees(request)
    known = {edit_set.name for edit_set in front.service.edit_sets() if see(edit_set)}
    if variant not in known | RESERVED:
        raise UnknownVariant(
            f"There is no variant {variant!r} of the model; GET /v1/models lists them.",
            field="variant",
        )
    return variant


def _out(variant: str, revision: int, decision: Decision) -> RouteOut:
    return RouteOut(variant=variant, revision=revision, **_decided(decision))


def _decided(decision: Decision) -> dict[str, Any]:
    if isinstance(decision, Pass):
        return {"reason": decision.reason}
    if isinstance(decision, Decompose):
        return {"method": "mello", "hops": True}
    scored = zip(decision.edit_ids, decision.scores, strict=True)
    edits = [RoutedEditOut(id=edit_id, score=score) for edit_id, score in scored]
    told: dict[str, Any] = {"method": decision.method, "edits": edits}
    if isinstance(decision, Delegate):
        return told
    messages = decision.messages
    told["messages"] = None if messages is None else [dict(turn) for turn in messages]
    return told | {"text": decision.text}
