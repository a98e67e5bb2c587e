"""ASGI middleware: gives each request its variant and its facts, and says so in the answer."""

import json
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers, State
from starlette.types import ASGIApp, Receive, Scope, Send

from vllm_edit.domain.errors import EditError, UnknownVariant
from vllm_edit.domain.variant import DEFAULT, RESERVED
from vllm_edit.http_errors import error_response
from vllm_edit.memory.router import Routed
from vllm_edit.memory.routing_options import HOPS_FIELD, wishes
from vllm_edit.request import body
from vllm_edit.request import variant_selection as choice
from vllm_edit.request.edit_state import EditState
from vllm_edit.request.freshness import require_revision
from vllm_edit.request.metrics import ROUTING, Observation, count
from vllm_edit.request.response_headers import Labels
from vllm_edit.security.tenants import TENANT_HEADER, is_visible

_OURS = frozenset({choice.FIELD, HOPS_FIELD})

GENERATION_PATHS = frozenset({"/v1/completions", "/v1/chat/completions"})


class EditMiddleware:
    """Brings each request to its variant, puts facts in front of it and labels the answer.

    Pure ASGI: vLLM's own handlers do the rest, streaming included. A body is read only where
    something depends on it: not as long as there are no edits. One that is not understood is
    passed on as it came, so that vLLM answers it in its own words.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        front = _front(scope)
        if front is None:
            await self._app(scope, receive, send)
            return
        try:
            if _path(scope) in GENERATION_PATHS:
                await self._generate(front, scope, receive, send)
            else:
                await self._other(front, scope, receive, send)
        except EditError as error:
            await error_response(error)(scope, receive, send)

    async def _generate(self, front: EditState, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        await require_revision(front.service, headers)
        if not (
            choice.HEADER in headers or front.service.distinguishes or not front.memory.empty()
        ):
            with front.grace.request(DEFAULT):
                await self._serve(front, DEFAULT, scope, receive, send)
            return
        data = await body.read(receive)
        request = body.parse(data)
        variant = DEFAULT if request is None else _variant(front, request, headers, _client(scope))
        with front.grace.request(variant):
            routed = None
            if request is not None:
                routed = await _route(front, request, headers, variant)
                data = data if routed.request == request else json.dumps(routed.request).encode()
            scope = body.with_length(scope, len(data))
            receive = body.replay(data, receive)
            await self._serve(front, variant, scope, receive, send, routed)

    async def _serve(
        self,
        front: EditState,
        variant: str,
        scope: Scope,
        receive: Receive,
        send: Send,
        routed: Routed | None = None,
    ) -> None:
        labels = Labels(front.service.served_revision, variant, front.service.labels(variant))
        labels.use(routed.used if routed else ())
        observation = Observation(variant)
        send = observation.wrap(labels.wrap(send))
        answer = routed.answer if routed else None
        model = front.memory.counterfactual
        with observation.counted():
            if routed is None or answer is None or model is None:
                await self._app(scope, receive, send)
                return
            # What is left to receive after the body is that the client leaves.
            await body.read(receive)
            try:
                await model.answer(_path(scope), routed.request, answer.facts, send, receive)
            except EditError as error:
                await error_response(error)(scope, receive, send)

    async def _other(self, front: EditState, scope: Scope, receive: Receive, send: Send) -> None:
        """Any other route of vLLM's, where nobody may name what is another tenant's."""
        variant = None
        if front.service.distinguishes and _is_vllms(scope):
            data = await body.read(receive)
            variant = front.names.variant_of(str((body.parse(data) or {}).get("model")))
            if variant is not None:
                _require_visible(front, variant, Headers(scope=scope))
            receive = body.replay(data, receive)
        with front.grace.request(variant or DEFAULT):
            await self._app(scope, receive, send)


async def _route(
    front: EditState, request: Mapping[str, Any], headers: Headers, variant: str
) -> Routed:
    wished = wishes(request, headers, variant)
    ours_left_out = {name: value for name, value in request.items() if name not in _OURS}
    asked = choice.for_variant(front.names, ours_left_out, variant)
    with ROUTING.time():
        routed = await front.router.route(asked, wished)
    count(variant, asked, routed)
    return routed


def _variant(front: EditState, request: Mapping[str, Any], headers: Headers, client: str) -> str:
    variant = choice.chosen(front.names, request, headers)
    if variant is None:
        return choice.given(front.service.split, front.names, request, headers, client)
    _require_visible(front, variant, headers)
    return variant


def _require_visible(front: EditState, variant: str, headers: Headers) -> None:
    key = headers.get(TENANT_HEADER)
    tenant = front.tenants.of(None if key is None else key.encode("latin-1"))
    known = {
        edit_set.name for edit_set in front.service.edit_sets() if is_visible(edit_set, tenant)
    }
    if variant not in known | RESERVED:
        raise UnknownVariant(
            f"There is no variant {variant!r} of the model; GET /v1/models lists them.",
            field="model",
        )


def _front(scope: Scope) -> EditState | None:
    if scope["type"] != "http" or scope["method"] != "POST":
        return None
    state: State = scope["app"].state
    return getattr(state, "edit_front", None)


def _is_vllms(scope: Scope) -> bool:
    """Whether a request may be one for a model; ours have bodies of their own, with limits."""
    json_body = Headers(scope=scope).get("content-type", "").startswith("application/json")
    return json_body and not _path(scope).startswith("/v1/edit")


def _path(scope: Scope) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _client(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""
