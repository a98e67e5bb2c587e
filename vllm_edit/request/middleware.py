"""ASGI middleware: gives each request its variant and its facts, and says so in the answer."""

import json
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from vllm_edit.domain.errors import EditError
from vllm_edit.domain.variant import DEFAULT
from vllm_edit.http_errors import error_response
from vllm_edit.memory.router import RoutedRequest
from vllm_edit.memory.routing_options import HOPS_FIELD, read_routing_options
from vllm_edit.request import body, variant_selection
from vllm_edit.request.edit_state import EditState, find_edit_state
from vllm_edit.request.freshness import require_revision
from vllm_edit.request.metrics import ROUTING, RequestTimer, count_routing
from vllm_edit.request.response_headers import ResponseHeaders

_OUR_FIELDS = frozenset({variant_selection.FIELD, HOPS_FIELD})

GENERATION_PATHS = frozenset({"/v1/completions", "/v1/chat/completions"})


class EditMiddleware:
    """Finds each request's variant, puts facts in front of it and adds headers to the answer.

    Pure ASGI: vLLM's own handlers do the rest, streaming included. A body is read only if
    something depends on it, so not while there are no edits. A body that is not understood is
    passed on as it came, so that vLLM refuses it itself.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = _post_state(scope)
        if state is None:
            await self._app(scope, receive, send)
            return
        try:
            if _path(scope) in GENERATION_PATHS:
                await self._generate(state, scope, receive, send)
            else:
                await self._pass_on(state, scope, receive, send)
        except EditError as error:
            await error_response(error)(scope, receive, send)

    async def _generate(self, state: EditState, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        await require_revision(state.service, headers)
        if not (
            variant_selection.HEADER in headers
            or state.service.distinguishes
            or not state.memory.empty()
        ):
            with state.grace.request(DEFAULT):
                await self._serve(state, DEFAULT, scope, receive, send)
            return
        data = await body.read(receive)
        request = body.parse(data)
        variant = DEFAULT if request is None else _variant(state, request, headers, _client(scope))
        with state.grace.request(variant):
            routed = None
            if request is not None:
                routed = await _route(state, request, headers, variant)
                data = data if routed.request == request else json.dumps(routed.request).encode()
            scope = body.with_length(scope, len(data))
            receive = body.replay(data, receive)
            await self._serve(state, variant, scope, receive, send, routed)

    async def _serve(
        self,
        state: EditState,
        variant: str,
        scope: Scope,
        receive: Receive,
        send: Send,
        routed: RoutedRequest | None = None,
    ) -> None:
        methods = state.service.labels(variant)
        used = routed.used if routed else []
        headers = ResponseHeaders(state.service.served_revision, variant, methods, used)
        timer = RequestTimer(variant)
        send = timer.wrap(headers.wrap(send))
        model = state.memory.counterfactual
        with timer.recorded():
            if routed is None or routed.delegate is None or model is None:
                await self._app(scope, receive, send)
                return
            # After the body, all that can be received is that the client left.
            await body.read(receive)
            facts = routed.delegate.facts
            try:
                await model.answer(_path(scope), routed.request, facts, send, receive)
            except EditError as error:
                await error_response(error)(scope, receive, send)

    async def _pass_on(self, state: EditState, scope: Scope, receive: Receive, send: Send) -> None:
        """Any other route of vLLM's, where nobody may name a variant that they do not see."""
        variant = None
        if state.service.distinguishes and _may_name_model(scope):
            data = await body.read(receive)
            variant = state.names.variant_of(str((body.parse(data) or {}).get("model")))
            if variant is not None:
                _check_variant(state, variant, Headers(scope=scope))
            receive = body.replay(data, receive)
        with state.grace.request(variant or DEFAULT):
            await self._app(scope, receive, send)


async def _route(
    state: EditState, request: Mapping[str, Any], headers: Headers, variant: str
) -> RoutedRequest:
    options = read_routing_options(request, headers, variant)
    vllm_fields = {name: value for name, value in request.items() if name not in _OUR_FIELDS}
    addressed = variant_selection.request_for_variant(state.names, vllm_fields, variant)
    with ROUTING.time():
        routed = await state.router.route(addressed, options)
    count_routing(variant, addressed, routed)
    return routed


def _variant(state: EditState, request: Mapping[str, Any], headers: Headers, client: str) -> str:
    variant = variant_selection.chosen_variant(state.names, request, headers)
    if variant is None:
        return variant_selection.assigned_variant(
            state.service.split, state.names, request, headers, client
        )
    _check_variant(state, variant, headers)
    return variant


def _check_variant(state: EditState, variant: str, headers: Headers) -> None:
    viewer = state.viewer(headers, manages_edits=False)
    viewer.check_variant(variant, state.service.edit_sets(), field="model")


def _post_state(scope: Scope) -> EditState | None:
    """The state of the server, for a POST request only."""
    if scope["type"] != "http" or scope["method"] != "POST":
        return None
    return find_edit_state(scope["app"].state)


def _may_name_model(scope: Scope) -> bool:
    """Whether a request may be one to a model; our own routes read their bodies with a limit."""
    json_body = Headers(scope=scope).get("content-type", "").startswith("application/json")
    return json_body and not _path(scope).startswith("/v1/edit")


def _path(scope: Scope) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _client(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""
