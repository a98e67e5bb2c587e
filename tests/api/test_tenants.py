"""A tenant's set: to an outsider it is not there, whatever they send to whatever route."""

import gzip
import itertools
import json
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.cases import MODEL, Case, known_cases, post, text_of
from tests.conftest import ENGINE_FLAGS, TENANTS
from vllm_edit.processes.server import ServerProcess
from vllm_edit.vllm_interface import launch

KEY = "X-Edit-Tenant-Key"
MINE, ELSEWHERE = {KEY: TENANTS["acme"]}, {KEY: TENANTS["globex"]}

OWNED, UNSAID, ABSENT = "acme-only", "acme-too", "acme-none"
"""Two sets of one tenant, the second of which no outsider asks for, and a set that is not there."""

TOKENS = {
    "token_ids": [5, 6, 7],
    "tokens": [5, 6, 7],
    "sampling_params": {"max_tokens": 1, "temperature": 0.0},
}
CHAT = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1, "temperature": 0.0}
ANSWER = {"input": "Hello", "max_output_tokens": 1, "temperature": 0.0}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": CHAT,
    "/v1/chat/completions/batch": CHAT | {"messages": [CHAT["messages"]]},
    "/v1/chat/completions/render": CHAT,
    "/v1/messages": CHAT,
    "/v1/messages/count_tokens": CHAT,
    "/v1/messages/render": CHAT,
    "/v1/responses": ANSWER,
    "/v1/responses/render": ANSWER,
    "/inference/v1/generate": TOKENS,
    "/detokenize": {"tokens": [5, 6, 7]},
    "/tokenize": {"prompt": "Hello"},
    # Without items it is refused once the model is found: scoring compiles code for a long time.
    "/generative_scoring": {"query": "Hello", "items": [], "label_token_ids": [5, 6]},
}
"""What vLLM's routes read; all others get a prompt."""

ANSWERED = {
    "/v1/completions", "/v1/completions/render", "/v1/chat/completions",
    "/v1/chat/completions/batch", "/v1/chat/completions/render", "/v1/messages",
    "/v1/messages/count_tokens", "/v1/messages/render", "/v1/responses", "/v1/responses/render",
    "/inference/v1/generate", "/tokenize", "/detokenize", "/invocations",
}  # fmt: skip
"""Routes that answer the tenant itself, so that a refusal of others says something."""

CONTENT_TYPES = (
    "Application/JSON", "APPLICATION/JSON; charset=utf-8", "application/json;charset=utf-16",
    "application/json ; x=y", "application/json, text/plain", "application/vnd.api+json",
    "text/json", "text/plain", "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x", "application/octet-stream", "",
)  # fmt: skip


def plain(request: dict[str, Any]) -> bytes:
    return json.dumps(request).encode()


def _raw(text: str) -> Callable[[dict[str, Any]], bytes]:
    """The request with a further member, as it is written."""
    return lambda request: (json.dumps(request)[:-1] + f', "x": {text}}}').encode()


def _twice(first: bool) -> Callable[[dict[str, Any]], bytes]:
    """The name of the model twice; the served model's is the first or the last."""
    served = json.dumps({"model": MODEL})[1:-1]

    def body(request: dict[str, Any]) -> bytes:
        inner = json.dumps(request)[1:-1]
        return ("{" + ", ".join([served, inner] if first else [inner, served]) + "}").encode()

    return body


SPELLINGS: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "half of a surrogate pair": _raw('"\\ud800"'),
    "half of one as a key": _raw('{"\\udfff": 1}'),
    "not a number": _raw("NaN"),
    "infinity": _raw("-1e999"),
    "a long number": _raw("9" * 5000),
    "deep": _raw("[" * 900 + "]" * 900),
    "too deep": _raw("[" * 100_000 + "]" * 100_000),
    "model twice": _twice(first=False),
    "model twice, the other way": _twice(first=True),
    "escaped": lambda r: plain(r).replace(b"@acme", b"\\u0040\\u0061cme"),
    "byte order mark": lambda r: plain(r).decode().encode("utf-8-sig"),
    "utf-16": lambda r: plain(r).decode().encode("utf-16"),
    "utf-32": lambda r: plain(r).decode().encode("utf-32-be"),
    "not utf-8": lambda r: plain(r)[:-1] + b', "x": "\xff"}',
    "a tail": lambda r: plain(r) + b" x",
    "two objects": lambda r: plain(r) + plain(r),
    "white space": lambda r: b"\r\n\t " + plain(r) + b"\n",
    "a null byte": lambda r: plain(r) + b"\0",
    "a list": lambda r: b"[" + plain(r) + b"]",
    "a string": lambda r: json.dumps(json.dumps(r)).encode(),
    "gzip": lambda r: gzip.compress(plain(r), mtime=0),
    "a form": lambda r: b"&".join(f"{k}={v}".encode() for k, v in r.items()),
}


@pytest.fixture(scope="module")
def routes() -> list[tuple[str, str]]:
    """Method and path of every route of vLLM's app, and of ours."""
    from vllm.entrypoints.launchers.app import build_app  # takes seconds

    flags = [flag for flag in ENGINE_FLAGS if not flag.startswith("--edit")]
    os.environ["VLLM_PLUGINS"] = "vllm_edit"
    try:
        app = build_app(launch.make_parser("test").parse_args(flags), ("generate",), None)
    finally:
        del os.environ["VLLM_PLUGINS"]
    found = {
        (method, re.sub(r"\{[^}]+\}", OWNED, route.path))
        for route in app.routes
        for method in getattr(route, "methods", None) or {"GET"}
    }
    return sorted(found - {("HEAD", path) for _, path in found})


@pytest.fixture
def case(guarded: ServerProcess) -> Case:
    """A fact that no other test has put into the default set, whose ended edits anyone may see."""
    return known_cases(guarded.url, 6)[-1]


@pytest.fixture
def owned(admin: httpx.Client, case: Case) -> Case:
    """Two sets of acme's; a weight edit is in both, and served with an adapter."""
    for edit_set in (OWNED, UNSAID):
        admin.post("/v1/edit-sets", json={"name": edit_set, "owner": "acme"}).raise_for_status()
        post(admin, case.edit("rome", edit_set=edit_set))
    return case


def body_of(path: str, variant: str, prompt: str) -> dict[str, Any]:
    body = BODIES.get(path, {"prompt": prompt, "max_tokens": 12, "temperature": 0.0})
    return {"model": f"{MODEL}@{variant}", **body}


def trace(reply: httpx.Response) -> tuple[int, str]:
    """What a client learns from an answer, but for names, ids and times."""
    text = re.sub(rf"{OWNED}|{ABSENT}", "SET", reply.text)
    text = re.sub(r"[0-9a-f]{8}(?:-?[0-9a-f]{4}){6}|[0-9a-f]{16}", "ID", text)
    text = re.sub(r'"(created|created_at|completed_at)":[\d.]+', r'"\1":0', text)
    return reply.status_code, text


def test_every_route_is_asked(routes: list[tuple[str, str]]) -> None:
    paths = {path for _, path in routes}
    assert paths >= ANSWERED | {"/v1/models", "/metrics", "/openapi.json", "/v1/edits"}
    assert set(BODIES) <= paths


def test_the_tenant_is_answered(
    anyone: httpx.Client, owned: Case, routes: list[tuple[str, str]]
) -> None:
    answered = set()

    for path in {path for method, path in routes if method == "POST"}:
        body = body_of(path, OWNED, owned.prompt)
        if anyone.post(path, json=body, headers=MINE).status_code == httpx.codes.OK:
            answered.add(path)
    assert answered >= ANSWERED
    body = body_of("/v1/completions", OWNED, owned.prompt)
    reply = anyone.post("/v1/completions", json=body, headers=MINE)
    assert text_of(reply.json()["choices"][0]["text"]) == owned.target_new
    body["model"] = MODEL
    reply = anyone.post("/v1/completions", json=body | {"edit_variant": OWNED}, headers=MINE)
    assert text_of(reply.json()["choices"][0]["text"]) == owned.target_new


@pytest.mark.parametrize(
    ("headers", "most"), [({}, None), (ELSEWHERE, 2)], ids=["nobody", "another tenant"]
)
def test_an_outsider_sees_no_sign_of_it(
    anyone: httpx.Client,
    owned: Case,
    routes: list[tuple[str, str]],
    headers: dict[str, str],
    most: int | None,
) -> None:
    """Every answer is the same as where there is no such set, and none has the other's name."""
    for method, path in routes:
        for content_type, spell in itertools.islice(requests(), most):
            traces = []
            for variant in (OWNED, ABSENT):
                body = body_of(path, variant, owned.prompt)
                sent = headers | {"content-type": content_type}
                reply = anyone.request(method, path, content=spell(body), headers=sent)
                where = (method, path, content_type, spell, variant, reply.status_code, reply.text)
                assert reply.status_code != httpx.codes.INTERNAL_SERVER_ERROR, where
                assert UNSAID not in reply.text + str(reply.headers), where
                assert owned.target_new not in reply.text, where
                traces.append(trace(reply))
            if path != "/metrics":
                assert traces[0] == traces[1], where
            if method == "GET":
                break


def requests() -> Iterator[tuple[str, Callable[[dict[str, Any]], bytes]]]:
    """Content types, and bodies of each kind."""
    yield "application/json", plain
    yield from zip(CONTENT_TYPES, itertools.repeat(plain))
    yield from zip(itertools.repeat("application/json"), SPELLINGS.values())
    yield "application/x-www-form-urlencoded", SPELLINGS["a form"]
    yield "Application/JSON", SPELLINGS["half of a surrogate pair"]


@pytest.mark.parametrize(
    "sent",
    [
        {"X-Amzn-SageMaker-Adapter-Identifier": f"{MODEL}@{OWNED}"},
        {"X-Edit-Variant": OWNED},
        {"X-Edit-Tenant-Key": "wrong"},
        {"Content-Encoding": "gzip"},
    ],
)
def test_no_header_leads_to_it(anyone: httpx.Client, owned: Case, sent: dict[str, str]) -> None:
    for path, model in itertools.product(
        ("/invocations", "/v1/completions", "/tokenize"), (MODEL, f"{MODEL}@{OWNED}")
    ):
        body = body_of(path, OWNED, owned.prompt) | {"model": model}
        reply = anyone.post(path, json=body, headers=sent)
        assert owned.target_new not in reply.text
        if model != MODEL or "Identifier" in next(iter(sent)):
            assert reply.is_client_error or path != "/invocations", reply.text


@pytest.mark.parametrize("spelling", ["half of a surrogate pair", "a list", "gzip", "a tail"])
def test_a_body_that_is_not_understood_is_refused(
    anyone: httpx.Client, admin: httpx.Client, owned: Case, spelling: str
) -> None:
    for headers in ({}, MINE):
        for path in ("/v1/completions", "/v1/chat/completions", "/v1/responses", "/tokenize"):
            content = SPELLINGS[spelling](body_of(path, OWNED, owned.prompt))
            sent = headers | {"content-type": "application/json"}
            assert refusal(anyone.post(path, content=content, headers=sent)) == (
                400,
                "unreadable_body",
            )


def test_nobody_else_sees_the_set_and_its_edits(
    anyone: httpx.Client, admin: httpx.Client, owned: Case
) -> None:
    *_, edit = [e for e in admin.get("/v1/edits").json()["data"] if e["edit_set"] == OWNED]
    wrong = anyone.post("/v1/completions", json=body_of("", OWNED, "x"), headers={KEY: "wrong"})
    assert refusal(wrong) == (401, "unknown_tenant")
    for headers, seen in ((MINE, True), (ELSEWHERE, False), ({}, False)):
        models = {card["id"] for card in anyone.get("/v1/models", headers=headers).json()["data"]}
        assert ({f"{MODEL}@{OWNED}", f"{MODEL}@{UNSAID}"} <= models) == seen
        for path, code in (
            (f"edit-sets/{OWNED}", "unknown_edit_set"),
            (f"edits/{edit['id']}", "unknown_edit"),
        ):
            reply = anyone.get(f"/v1/{path}", headers=headers)
            if seen:
                assert reply.status_code == httpx.codes.OK
            else:
                assert refusal(reply) == (404, code)
        for path, field in (("edit-sets", "name"), ("edits", "edit_set")):
            rows = anyone.get(f"/v1/{path}", headers=headers).json()["data"]
            assert (OWNED in {row[field] for row in rows}) == seen
    rows = admin.get("/v1/edit-sets").json()["data"]
    assert {OWNED, UNSAID} <= {row["name"] for row in rows}


def test_it_stays_the_tenant_s(admin: httpx.Client, owned: Case) -> None:
    activated = admin.patch(f"/v1/edit-sets/{OWNED}", json={"active": True})
    assert refusal(activated) == (409, "owned_edit_set")
    stranger = admin.post("/v1/edit-sets", json={"name": "x", "owner": "nobody"})
    assert refusal(stranger) == (400, "invalid_edit_set")
    body = {"text": owned.prompt, "variant": OWNED}
    assert admin.post("/v1/edits/route", json=body).json()["variant"] == OWNED
    assert refusal(admin.post("/v1/edits/route", json=body, headers=ELSEWHERE)) == (
        404,
        "unknown_variant",
    )


def refusal(reply: httpx.Response) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]["code"]
