"""Bad input over real HTTP: a code, a sentence, and nothing changed."""

from typing import Any

import httpx
import pytest

from tests.cases import MODEL, NEWEST, Case, answer, post, roll_back

GOOD = {
    "method": "ike",
    "prompt": "The capital of Nowhere is",
    "subject": "Nowhere",
    "target_new": "Somewhere",
}


def without(field: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != field}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({**GOOD, "subject": "Elsewhere"}, 400, "subject_not_in_prompt"),
        ({**GOOD, "method": "prayer"}, 400, "unknown_method"),
        ({**GOOD, "target_new": ""}, 400, "empty"),
        ({**GOOD, "target_new": "  "}, 400, "empty"),
        ({**GOOD, "target_new": "long " * 200}, 400, "too_long"),
        ({**GOOD, "target_new": "a\nNew Fact: b"}, 400, "forbidden_character"),
        ({**GOOD, "target_new": "a\u202eb"}, 400, "forbidden_character"),
        ({**GOOD, "target_new": "a\x00b"}, 400, "forbidden_character"),
        ({**GOOD, "wait": "yes"}, 400, "malformed"),
        ({**GOOD, "targetnew": "typo"}, 400, "malformed"),
        ({**GOOD, "target_new": 7}, 400, "malformed"),
        (without("subject"), 400, "malformed"),
        ([], 400, "empty"),
        ([GOOD, 1], 400, "malformed"),
        ("fact", 400, "malformed"),
        (None, 400, "malformed"),
        ({"edits": []}, 400, "empty"),
        ([GOOD] * 1001, 400, "too_many"),
    ],
)
def test_a_bad_edit_is_refused_and_changes_nothing(
    http: httpx.Client, body: Any, status: int, code: str
) -> None:
    before = http.get("/v1/edits", params=NEWEST).json()
    reply = http.post("/v1/edits", json=body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)
    assert len(reply.json()["error"]["message"].split()) > 3
    assert http.get("/v1/edits", params=NEWEST).json() == before


def test_a_special_token_of_the_model_is_refused(http: httpx.Client, special_token: str) -> None:
    reply = http.post("/v1/edits", json={**GOOD, "target_new": f"x {special_token}"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "special_token")


def test_a_body_that_is_no_json_or_too_long_is_refused(http: httpx.Client) -> None:
    reply = http.post("/v1/edits", content=b"{not json")
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "malformed")
    reply = http.post("/v1/edits", content=b" " * (2 << 20))
    assert (reply.status_code, reply.json()["error"]["code"]) == (413, "body_too_large")


def test_an_unknown_id_is_404(http: httpx.Client) -> None:
    for reply in (http.get("/v1/edits/edit-none"), http.delete("/v1/edits/edit-none")):
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, "unknown_edit")


def test_an_edit_is_taken_back_once(http: httpx.Client, case: Case) -> None:
    edit = post(http, case.edit("ike"))
    roll_back(http, edit)
    reply = http.delete(f"/v1/edits/{edit['id']}")
    assert (reply.status_code, reply.json()["error"]["code"]) == (409, "already_rolled_back")


def test_a_request_that_vllm_refuses_is_refused_in_its_words(
    http: httpx.Client, case: Case
) -> None:
    post(http, case.edit("ike"))
    half = f'{{"model": "{MODEL}", "prompt": "{case.prompt} \\ud800"}}'.encode()
    for content in (b"[]", b"{", b'{"model": "factworld"}', b'{"prompt": 7}', half):
        reply = http.post("/v1/completions", content=content)
        assert 400 <= reply.status_code < 500
    reply = http.post("/v1/chat/completions", json={"model": MODEL, "messages": "hello"})
    assert 400 <= reply.status_code < 500
    assert answer(http, case.prompt) == case.target_new
