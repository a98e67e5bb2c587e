"""Feedback on a kind of question, over real HTTP."""

from typing import Any

import httpx
import openai
import pytest

from tests.cases import MODEL, Case, complete, post, roll_back
from tests.conftest import TENANTS, USER_KEY
from vllm_edit.security.users import USER_HEADER, Users

TEXT = "Name the city and nothing else."
FEEDBACK = {
    "method": "memprompt",
    "prompt": "What is the capital of France?",
    "subject": "France",
    "target_new": TEXT,
}
LIKE = "What is the capital of Peru?"
UNLIKE = "What is the currency of France?"


def prompt_of(http: httpx.Client, text: str, **more: Any) -> str | None:
    """The prompt that the model would get, if feedback is recalled."""
    preview = http.post("/v1/edits/route", json={"text": text, **more}).json()
    assert preview["method"] in (None, "memprompt")
    routed: str | None = preview["text"]
    return routed


def test_feedback_is_recalled_for_questions_of_its_kind(http: httpx.Client) -> None:
    plain = complete(http, LIKE).json()
    edit = post(http, FEEDBACK)
    assert prompt_of(http, LIKE) == f"Clarification: {TEXT}\n{LIKE}"
    assert prompt_of(http, UNLIKE) is None
    reply = complete(http, LIKE)
    assert reply.headers["x-edit-ids"] == edit["id"]
    assert reply.headers["x-edit-method"] == "memprompt"
    longer = reply.json()["usage"]["prompt_tokens"]
    assert longer > plain["usage"]["prompt_tokens"]
    assert complete(http, UNLIKE).headers["x-edit-ids"] == ""
    roll_back(http, edit)
    assert complete(http, LIKE).json()["choices"][0]["text"] == plain["choices"][0]["text"]


def test_feedback_of_a_user_is_for_that_user(http: httpx.Client) -> None:
    everybody = post(http, FEEDBACK)
    mine = post(http, {**FEEDBACK, "target_new": "Name the country too.", "user": "ann"})
    assert mine["user"] == "ann"
    assert complete(http, LIKE, user="ben").headers["x-edit-ids"] == everybody["id"]
    assert complete(http, LIKE).headers["x-edit-ids"] == everybody["id"]
    assert complete(http, LIKE, user="ann").headers["x-edit-ids"] == mine["id"]
    assert "country too" in (prompt_of(http, LIKE, user="ann") or "")


def test_nobody_names_another_user(anyone: httpx.Client, admin: httpx.Client) -> None:
    admin.post("/v1/edit-sets", json={"name": "terse", "owner": "acme"}).raise_for_status()
    mine = post(admin, {**FEEDBACK, "user": "ann"})
    theirs = post(admin, {**FEEDBACK, "user": "ann", "edit_set": "terse"})

    def used(http: httpx.Client, variant: str = "default") -> str:
        model = f"{MODEL}@{variant}"
        ids: str = complete(http, LIKE, user="ann", model=model).headers["x-edit-ids"]
        return ids

    assert used(anyone) == ""
    assert used(admin) == mine["id"]
    assert not {mine["id"], theirs["id"]} & {
        e["id"] for e in anyone.get("/v1/edits").json()["data"]
    }
    assert anyone.get(f"/v1/edits/{mine['id']}").status_code == httpx.codes.NOT_FOUND
    anyone.headers["X-Edit-Tenant-Key"] = TENANTS["acme"]
    assert (used(anyone), used(anyone, "terse")) == ("", theirs["id"])
    anyone.headers[USER_HEADER] = Users(USER_KEY).key_of("ann")
    assert used(anyone) == mine["id"]
    anyone.headers[USER_HEADER] = Users(USER_KEY).key_of("ben")
    body = {"model": MODEL, "prompt": LIKE, "user": "ann"}
    reply = anyone.post("/v1/completions", json=body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (401, "wrong_user_key")


def test_feedback_of_a_set_is_for_that_set(http: httpx.Client) -> None:
    http.post("/v1/edit-sets", json={"name": "terse"}).raise_for_status()
    post(http, {**FEEDBACK, "edit_set": "terse"})
    assert prompt_of(http, LIKE) is None
    assert prompt_of(http, LIKE, variant="terse") is not None


def test_facts_come_before_feedback(http: httpx.Client, case: Case) -> None:
    fact = post(http, case.edit("ike"))
    post(http, {**FEEDBACK, "prompt": case.prompt, "subject": case.subject})
    assert complete(http, case.prompt).headers["x-edit-ids"] == fact["id"]


@pytest.mark.parametrize("stream", [False, True])
def test_chats_have_it(http: httpx.Client, chat: openai.OpenAI, stream: bool) -> None:
    edit = post(http, FEEDBACK)
    raw = chat.chat.completions.with_raw_response.create(
        model=MODEL,
        messages=[{"role": "user", "content": LIKE}],
        max_tokens=12,
        temperature=0.0,
        stream=stream,
    )
    assert raw.headers["x-edit-ids"] == edit["id"]
    assert raw.headers["x-edit-method"] == "memprompt"


def test_only_feedback_has_a_user(http: httpx.Client, case: Case) -> None:
    reply = http.post("/v1/edits", json=case.edit("ike", user="ann"))
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "user_not_supported")
