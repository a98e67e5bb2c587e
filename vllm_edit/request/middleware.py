"""ASGI middleware: gives each request its variant and its facts, and says so in the answer."""

import json
from collections.abc import Mapping
from dataclasses import replace
from email.message import Message
from functools import partial
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from vllm_edit.domain.errors import EditError, InvalidChoice, Unauthorized
from vllm_edit.domain.variant import DEFAULT
from vllm_edit.http_errors import error_response
from vllm_edit.memory.router import RoutedRequest
from vllm_edit.memory.routing_options import HOPS_FIELD, read_routing_options
from vllm_edit.request import body, variant_selection
from vllm_edit.request.edit_state import EditState, find_edit_state
from vllm_edit.request.freshness import require_revision
from vllm_edit.request.held_refusal import HeldRefusal
from vllm_edit.request.metrics import ROUTING, RequestTimer, count_routing
from vllm_edit.request.response_headers import ResponseHeaders
from vllm_edit.security.visibility import OUTSIDER, Viewer, viewing

_OUR_FIELDS = frozenset({variant_selection.FIELD, HOPS_FIELD})

GENERATION_PATHS = frozenset({"/v1/completions", "/v1/chat/completions"})


class EditMiddleware:
    """Finds each request's variant, puts facts in front of it and adds headers to the answer.

    Pure ASGI: vLLM's own handlers do the rest, streaming included. A body is read only if
    something depends on it, so not while there are no edits. A body that is not understood is
    passed on as it came, so that vLLM refuses it itself; while there are sets of tenants it is
    refused here. Whatever a request says, vLLM finds no variant that its client may not see.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = _state(scope)
        if state is None:
            await self._app(scope, receive, send)
            return
        with viewing(_viewer(state, scope)):
            await self._handle(state, scope, receive, send)

    async def _handle(self, state: EditState, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope.get("method") != "POST":
                await self._app(scope, receive, send)
            elif _path(scope) in GENERATION_PATHS:
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
            timer = RequestTimer(partial(state.views.label, DEFAULT))
            with state.grace.request(DEFAULT), timer.recorded():
                await self._serve(state, DEFAULT, scope, receive, timer.wrap(send))
            return
        data = await body.read(receive)
        request = _understood(state, data)
        variant = DEFAULT if request is None else _variant(state, request, headers, _client(scope))
        with state.grace.request(variant):
            timer = RequestTimer(partial(state.views.label, variant))
            with timer.recorded():
                if request is not None:
                    addressed, routed = await _route(state, request, headers, variant)
                    if routed.used and await self._serve_with_edits(
                        state, variant, scope, receive, send, timer, addressed, routed
                    ):
                        return
                    if addressed != request:
                        data = json.dumps(addressed).encode()
                scope, receive = body.with_body(scope, receive, data)
                await self._serve(state, variant, scope, receive, timer.wrap(send))

    async def _serve_with_edits(
        self,
        state: EditState,
        variant: str,
        scope: Scope,
        receive: Receive,
        send: Send,
        timer: RequestTimer,
        addressed: Mapping[str, Any],
        routed: RoutedRequest,
    ) -> bool:
        """Answer a request that edits concern; returns whether it was answered.

        It is not if it is refused, for that may be for its edits, which the client did not send:
        the request itself decides then.
        """
        data = json.dumps(routed.request).encode()
        scope, receive = body.with_body(scope, receive, data)
        held = HeldRefusal(
            _headers(state, variant, routed).wrap(timer.wrap(send)),
            lambda: count_routing(state.views.label(variant), addressed, routed),
        )
        delegate, model = routed.delegate, state.memory.counterfactual
        if delegate is None or model is None:
            await self._app(scope, receive, held.send)
        else:
            # After the body, all that can be received is that the client left.
            await body.read(receive)
            path = _path(scope)
            try:
                await model.answer(path, routed.request, delegate.facts, held.send, receive)
            except EditError as error:
                await error_response(error)(scope, receive, held.send)
        if held.refused:
            passed = RoutedRequest(dict(addressed), unrouted="refused")
            count_routing(state.views.label(variant), addressed, passed)
        return not held.refused

    async def _serve(
        self, state: EditState, variant: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer a request that no memory edit concerns."""
        await self._app(scope, receive, _headers(state, variant).wrap(send))

    async def _pass_on(self, state: EditState, scope: Scope, receive: Receive, send: Send) -> None:
        """Any other route of vLLM's, where nobody may name a variant that they do not see."""
        variant = None
        if state.service.distinguishes and _may_name_model(scope):
            data = await body.read(receive)
            request = (_understood(state, data) if data else None) or {}
            variant = state.names.variant_of(str(request.get("model")))
            if variant is not None:
                _check_variant(state, variant, Headers(scope=scope))
                addressed = variant_selection.request_for_variant(state.names, request, variant)
                data = json.dumps(addressed).encode()
            scope, receive = body.with_body(scope, receive, data)
        with state.grace.request(variant or DEFAULT):
            await self._app(scope, receive, send)


async def _route(
    state: EditState, request: Mapping[str, Any], headers: Headers, variant: str
) -> tuple[Mapping[str, Any], RoutedRequest]:
    """The request as vLLM gets it for its variant, and that with its edits."""
    options = read_routing_options(request, headers, variant)
    if options.user is not None:
        options = replace(options, user=state.proven_user(options.user, headers, variant))
    vllm_fields = {name: value for name, value in request.items() if name not in _OUR_FIELDS}
    addressed = variant_selection.request_for_variant(state.names, vllm_fields, variant)
    with ROUTING.time():
        routed = await state.router.route(addressed, options)
    if not routed.used:
        count_routing(state.views.label(variant), addressed, routed)
    return addressed, routed


def _headers(
    state: EditState, variant: str, routed: RoutedRequest | None = None
) -> ResponseHeaders:
    used = routed.used if routed else []
    methods = state.service.labels(variant)
    return ResponseHeaders(state.service.served_revision, variant, methods, used)


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


def _understood(state: EditState, data: bytes) -> dict[str, Any] | None:
    """The body as vLLM reads it; None if it is not understood.

    Raises InvalidChoice for such a body if it could be a request to a tenant's variant.
    """
    request = body.parse(data)
    if request is None and any(edit_set.owner for edit_set in state.service.edit_sets()):
        raise InvalidChoice(
            "The body is not understood: send a JSON object without halves of surrogate pairs.",
            code="unreadable_body",
        )
    return request


def _state(scope: Scope) -> EditState | None:
    """The state of the server; None for what is no request."""
    if scope["type"] not in ("http", "websocket"):
        return None
    return find_edit_state(scope["app"].state)


def _viewer(state: EditState, scope: Scope) -> Viewer:
    """Who asks a route of vLLM's; whoever sends a wrong key sees what everybody sees."""
    try:
        return state.viewer(Headers(scope=scope), manages_edits=False)
    except Unauthorized:
        return OUTSIDER


def _may_name_model(scope: Scope) -> bool:
    """Whether a request may be one to a model; our own routes read their bodies with a limit."""
    return _is_json(scope) and not _path(scope).startswith("/v1/edit")


def _is_json(scope: Scope) -> bool:
    """Whether FastAPI reads the body as JSON."""
    media_type = Message()
    media_type["content-type"] = Headers(scope=scope).get("content-type", "")
    subtype = media_type.get_content_subtype()
    json_like = subtype == "json" or subtype.endswith("+json")
    return media_type.get_content_maintype() == "application" and json_like


def _path(scope: Scope) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _client(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""
