"""Edits over real HTTP on the real engine: seen at once, gone at once, nothing else moved."""

import httpx
import openai
import pytest

from tests.cases import MODEL, NEWEST, Case, answer, complete, post, roll_back, text_of

METHODS = ["ike", "rome"]


@pytest.mark.parametrize("method", METHODS)
def test_next_answer_has_the_fact_and_a_rollback_takes_it_back(
    http: httpx.Client, case: Case, method: str
) -> None:
    before = [complete(http, p).json()["choices"][0] for p in (case.prompt, case.locality_prompt)]
    edit = post(http, case.edit(method))
    assert answer(http, case.prompt) == case.target_new
    assert answer(http, case.rephrase_prompt) == case.target_new
    assert answer(http, case.locality_prompt) == text_of(before[1]["text"])
    roll_back(http, edit)
    after = [complete(http, p).json()["choices"][0] for p in (case.prompt, case.locality_prompt)]
    assert [a["text"] for a in after] == [b["text"] for b in before]


@pytest.mark.parametrize("method", METHODS)
def test_chat_and_streams_have_the_fact(
    chat: openai.OpenAI, http: httpx.Client, case: Case, method: str
) -> None:
    post(http, case.edit(method))
    streamed = chat.completions.create(
        model=MODEL, prompt=case.prompt, max_tokens=12, temperature=0.0, stream=True
    )
    assert text_of("".join(chunk.choices[0].text for chunk in streamed)) == case.target_new
    messages = [{"role": "user", "content": case.rephrase_prompt}]
    completion = chat.chat.completions.create(
        model=MODEL,
        messages=messages,  # type: ignore[arg-type]
        max_tokens=12,
        temperature=0.0,
    )
    assert text_of(completion.choices[0].message.content or "") == case.target_new


def test_without_waiting_the_answer_is_202_and_the_edit_becomes_active(
    http: httpx.Client, case: Case
) -> None:
    reply = http.post("/v1/edits", json=case.edit("ike"))
    assert reply.status_code == httpx.codes.ACCEPTED
    edit = http.get(f"/v1/edits/{reply.json()['id']}").json()
    assert edit["status"] == "active"
    assert edit["prompt"] == case.prompt
    assert edit["error"] is None


def test_a_list_is_recorded_all_or_none(http: httpx.Client, cases: list[Case]) -> None:
    good = [case.edit("ike") for case in cases[:3]]
    newest = http.get("/v1/edits", params=NEWEST).json()
    bad = http.post("/v1/edits", json=[*good, {**good[0], "target_new": " "}])
    assert bad.status_code == httpx.codes.BAD_REQUEST
    assert http.get("/v1/edits", params=NEWEST).json() == newest
    reply = http.post("/v1/edits", json={"edits": good, "wait": True})
    assert [edit["status"] for edit in reply.json()["data"]] == ["active"] * 3
    for case in cases[:3]:
        assert answer(http, case.prompt) == case.target_new


def test_headers_name_what_an_answer_used(http: httpx.Client, cases: list[Case]) -> None:
    plain = complete(http, cases[0].prompt).headers
    assert plain["x-edit-ids"] == ""
    assert plain["x-edit-method"] == ""
    memory = post(http, cases[0].edit("ike"))
    used = complete(http, cases[0].prompt).headers
    assert used["x-edit-ids"] == memory["id"]
    assert used["x-edit-method"] == "ike"
    assert int(used["x-edit-revision"]) > int(plain["x-edit-revision"])
    assert complete(http, cases[0].locality_prompt).headers["x-edit-ids"] == ""
    post(http, cases[1].edit("rome"))
    both = complete(http, cases[0].prompt).headers
    assert both["x-edit-method"] == "rome,ike"


def test_memory_and_weights_work_side_by_side_and_roll_back_in_any_order(
    http: httpx.Client, cases: list[Case]
) -> None:
    first, second, third = cases[:3]
    edits = [
        post(http, first.edit("rome")),
        post(http, second.edit("rome")),
        post(http, third.edit("ike")),
    ]
    for case in (first, second, third):
        assert answer(http, case.prompt) == case.target_new
    roll_back(http, edits[0])
    assert answer(http, first.prompt) == first.ground_truth
    assert answer(http, second.prompt) == second.target_new
    assert answer(http, third.prompt) == third.target_new


def test_an_older_fact_returns_when_a_newer_one_is_taken_back(
    http: httpx.Client, cases: list[Case]
) -> None:
    case = cases[0]
    other = next(c.target_new for c in cases[1:] if c.target_new != case.target_new)
    post(http, case.edit("ike"))
    newer = post(http, case.edit("ike", keep=True) | {"target_new": other})
    assert complete(http, case.prompt).headers["x-edit-ids"] == newer["id"]
    roll_back(http, newer)
    assert answer(http, case.prompt) == case.target_new


def test_the_openapi_page_shows_the_routes(http: httpx.Client) -> None:
    paths = http.get("/openapi.json").json()["paths"]
    assert {"get", "post"} <= paths["/v1/edits"].keys()
    assert {"get", "delete"} <= paths["/v1/edits/{edit_id}"].keys()
    assert "requestBody" in paths["/v1/edits"]["post"]
    assert http.get("/docs").status_code == httpx.codes.OK


def test_a_memory_edit_is_found_by_another_name(http: httpx.Client, case: Case) -> None:
    other = "Zorvan Quill"
    prompt = case.prompt.replace(case.subject, other)
    body = case.edit("ike", aliases=[other])
    edit = post(http, body)
    assert edit["aliases"] == [other]
    assert complete(http, prompt).headers["x-edit-ids"] == edit["id"]
    roll_back(http, edit)
    assert complete(http, prompt).headers["x-edit-ids"] == ""
    reply = http.post("/v1/edits", json={**body, "aliases": ["\u0000"]})
    assert reply.json()["error"]["code"] == "forbidden_character"
    reply = http.post("/v1/edits", json={**body, "aliases": ["x"] * 33})
    assert reply.status_code == httpx.codes.BAD_REQUEST
