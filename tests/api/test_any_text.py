"""Texts of clients and of facts that once broke routing, on every route that reads them."""

from typing import Any

import httpx
import pytest

from tests.cases import DUBAI, MODEL, Case, complete, post, roll_back
from vllm_edit import factworld

ODD = [
    "\u00b4",
    "\u00af\\_(ツ)_/\u00af",
    "50 \u00a8 wide",
    "\u0301",
    "\ufdfa" * 50,
    "漢" * 250,
    "." * 900,
]

CONTEXT = 1024
"""Tokens of the bundled model's context."""


@pytest.fixture(scope="module")
def tokens() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(factworld.checkpoint())


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
@pytest.mark.parametrize("method", ["ike", "memprompt"])
def test_every_text_is_answered(http: httpx.Client, text: str, method: str) -> None:
    post(http, {**DUBAI, "method": method})
    bodies: dict[str, dict[str, Any]] = {
        "completions": {"prompt": text},
        "chat/completions": {"messages": [{"role": "user", "content": text}]},
        "responses": {"input": text},
        "tokenize": {"prompt": text},
    }
    for route, body in bodies.items():
        path = f"/{route}" if route == "tokenize" else f"/v1/{route}"
        limit = {"max_output_tokens" if route == "responses" else "max_tokens": 2}
        reply = http.post(path, json={"model": MODEL, **limit, **body})
        assert reply.status_code < 500, reply.text
        if "prompt" in body and route == "completions":
            assert (reply.status_code, reply.headers["x-edit-ids"]) == (200, "")
    for field in ({"text": text}, {"messages": bodies["chat/completions"]["messages"]}):
        reply = http.post("/v1/edits/route", json=field)
        assert (reply.status_code, reply.json()["edits"]) == (200, [])


@pytest.mark.parametrize("odd", ["x\u00b4", "\u00b4 x", "x \u00a8"])
def test_a_subject_with_an_accent_alone_is_a_name(http: httpx.Client, odd: str) -> None:
    edit = {**DUBAI, "subject": odd, "prompt": f"The thing {odd} is famous for its"}
    posted = http.post("/v1/edits", json={"edits": [DUBAI, edit], "wait": True})
    assert posted.status_code == 200, posted.text
    assert [each["status"] for each in posted.json()["data"]] == ["active", "active"]
    for each in posted.json()["data"]:
        roll_back(http, each)
    assert complete(http, DUBAI["prompt"]).headers["x-edit-ids"] == ""


@pytest.mark.parametrize("field", ["subject", "aliases"])
def test_a_name_without_a_word_is_refused(http: httpx.Client, field: str) -> None:
    odd = "\u00b4"
    edit = {**DUBAI, "prompt": f"Dubai {odd} is", field: [odd] if field == "aliases" else odd}
    reply = http.post("/v1/edits", json=edit)
    assert (reply.status_code, reply.json()["error"]["param"] in (field, "prompt")) == (400, True)


def prompt_of(case: Case, tokens: Any, length: int) -> str:
    """A prompt of so many tokens that ends with the case's own."""
    filler = "the town is old . "
    text = filler * length + case.prompt
    ids = tokens.encode(text, add_special_tokens=False)[-length:]
    return str(tokens.decode(ids))


def test_a_request_that_fits_alone_fits_with_edits(
    http: httpx.Client, case: Case, tokens: Any
) -> None:
    edit = post(http, case.edit("ike"))
    for length, answer, ids in ((974, 12, None), (900, 12, edit["id"]), (900, 120, "")):
        prompt = prompt_of(case, tokens, length)
        reply = complete(http, prompt, max_tokens=answer, ignore_eos=True)
        usage = reply.json()["usage"]
        assert usage["completion_tokens"] == answer
        assert ids is None or reply.headers["x-edit-ids"] == ids
        assert (usage["prompt_tokens"] > length + 2) == bool(reply.headers["x-edit-ids"])
    body = {"messages": [{"role": "user", "content": prompt_of(case, tokens, 960)}]}
    reply = http.post("/v1/chat/completions", json={"model": MODEL, "max_tokens": 8, **body})
    assert (reply.status_code, reply.headers["x-edit-ids"]) == (200, "")


def test_a_fact_that_never_fits_is_refused(http: httpx.Client, case: Case) -> None:
    for method in ("ike", "mello", "memprompt"):
        reply = http.post("/v1/edits", json=case.edit(method) | {"target_new": "漢" * 500})
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, "too_long")
        assert reply.json()["error"]["param"] == "target_new"
    assert complete(http, case.prompt).headers["x-edit-ids"] == ""


def test_a_truncated_prompt_names_no_fact_that_was_cut_away(http: httpx.Client, case: Case) -> None:
    edit = post(http, case.edit("ike"))
    for keep, ids in ((6, ""), (400, edit["id"]), (-1, edit["id"])):
        reply = complete(http, case.prompt, truncate_prompt_tokens=keep)
        assert reply.headers["x-edit-ids"] == ids
        told = case.target_new in reply.json()["choices"][0]["text"]
        assert told == bool(ids)
