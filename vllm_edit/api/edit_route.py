"""POST /v1/edits/route: how a request would be served, without generating anything."""

import json
from typing import Any

from fastapi import Request
from starlette.responses import JSONResponse, Response

from retriever import Decision, Decompose, Delegate, Messages, Pass
from vllm_edit.api.body import read_json, validated
from vllm_edit.api.openapi import body_docs
from vllm_edit.api.routers import change_router, errors_docs, viewer_of
from vllm_edit.api.schemas import RoutedEditOut, RouteIn, RouteOut
from vllm_edit.domain.errors import InvalidEdit
from vllm_edit.domain.variant import DEFAULT
from vllm_edit.memory.router import Unrouted
from vllm_edit.memory.routing_options import RoutingOptions
from vllm_edit.request.edit_state import EditState, edit_state_of
from vllm_edit.request.variant_selection import FIELD, chosen_variant

# It changes nothing, but it shows facts: so it is for those who may change them.
change_routes = change_router("/v1/edits")


@change_routes.post(
    "/route",
    response_model=RouteOut,
    openapi_extra=body_docs(RouteIn),
    responses=errors_docs(
        {
            400: "The body is not of this form, or chooses two variants.",
            404: "There is no such variant.",
            413: "The body is too long.",
            503: "Routing went wrong, and --edit-route-over-budget is fail.",
        }
    ),
)
async def route_request(request: Request) -> Response:
    """Say which edits concern a text or a chat, and how it would be served."""
    state = edit_state_of(request)
    body = validated(RouteIn, _encodable(await read_json(request, state.settings)))
    if (body.text is None) == (body.messages is None):
        raise InvalidEdit("Give either text or messages.", code="malformed", field="text")
    variant = _variant(request, state, body)
    content: str | Messages = body.messages or [] if body.text is None else body.text
    options = RoutingOptions(variant, body.edit_hops, body.user)
    decision = await state.router.preview(content, options)
    out = RouteOut(
        variant=variant, revision=state.service.served_revision, **_decision_fields(decision)
    )
    return JSONResponse(out.model_dump())


def _encodable(value: Any) -> Any:
    """The value, if it can be sent back: NaN and halves of surrogate pairs cannot."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise InvalidEdit(f"The body is not JSON: {error}.", code="malformed") from error
    return value


def _variant(request: Request, state: EditState, body: RouteIn) -> str:
    variant = chosen_variant(state.names, {"model": body.model, FIELD: body.variant}, {})
    if variant is None:
        return DEFAULT
    viewer_of(request).check_variant(variant, state.service.edit_sets(), field="variant")
    return variant


def _decision_fields(decision: Decision | Unrouted) -> dict[str, Any]:
    """The fields of `RouteOut` for a decision."""
    if isinstance(decision, str):
        return {"reason": decision}
    if isinstance(decision, Pass):
        return {"reason": decision.reason}
    if isinstance(decision, Decompose):
        return {"method": "mello", "hops": True}
    scored = zip(decision.edit_ids, decision.scores, strict=True)
    edits = [RoutedEditOut(id=edit_id, score=score) for edit_id, score in scored]
    fields: dict[str, Any] = {"method": decision.method, "edits": edits}
    if isinstance(decision, Delegate):
        return fields
    messages = decision.messages
    fields["messages"] = None if messages is None else [dict(turn) for turn in messages]
    return fields | {"text": decision.text}
