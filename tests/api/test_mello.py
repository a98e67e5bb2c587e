"""MeLLo over real HTTP on the real engine: questions that take several hops."""

from collections import Counter
from collections.abc import Sequence

import httpx
import openai
import pytest

from tests.api.multihop import MultiHop, Question, two_hops
from tests.asking import completions
from tests.cases import MODEL, complete, post, roll_back, text_of
from vllm_edit.processes.server import ServerProcess


@pytest.fixture(scope="module")
def world() -> MultiHop:
    return two_hops(60)


def load(http: httpx.Client, world: MultiHop) -> None:
    reply = http.post("/v1/edits", json={"edits": world.edits, "wait": True})
    assert reply.status_code == httpx.codes.OK, reply.text


async def answers(url: str, questions: Sequence[Question], **more: object) -> list[str]:
    texts = await completions(url, [question.text for question in questions], **more)
    return [text_of(text) for text in texts]


def share(questions: Sequence[Question], answered: Sequence[str]) -> float:
    right = [
        question.answer == answer for question, answer in zip(questions, answered, strict=True)
    ]
    return sum(right) / len(right)


async def test_two_hop_questions_after_many_edits(
    server: ServerProcess, http: httpx.Client, world: MultiHop
) -> None:
    load(http, world)
    answered = await answers(server.url, world.questions, edit_hops=True)
    by_kind: Counter[tuple[bool, bool]] = Counter()
    for question, answer in zip(world.questions, answered, strict=True):
        by_kind[question.edited] += question.answer == answer
    assert share(world.questions, answered) >= 0.85, by_kind


def answered_question(
    http: httpx.Client, world: MultiHop, **more: object
) -> tuple[httpx.Response, Question]:
    """A question that is answered right with its edits, and the response."""
    for question in world.questions:
        reply = complete(http, question.text, edit_hops=True, **more)
        if text_of(reply.json()["choices"][0]["text"]) == question.answer:
            return reply, question
    raise AssertionError("no question is answered right")


def test_every_kind_of_request_has_the_answer(
    http: httpx.Client, chat: openai.OpenAI, world: MultiHop
) -> None:
    small = two_hops(20)
    load(http, small)
    reply, question = answered_question(http, small)
    more = {"extra_body": {"edit_hops": True}}
    streamed = chat.completions.create(
        model=MODEL, prompt=question.text, max_tokens=12, temperature=0.0, stream=True, **more
    )
    assert text_of("".join(c.choices[0].text for c in streamed if c.choices)) == question.answer
    messages = [{"role": "user", "content": question.text}]
    ask = {"model": MODEL, "messages": messages, "max_tokens": 12, "temperature": 0.0, **more}
    completion = chat.chat.completions.create(**ask)
    assert text_of(completion.choices[0].message.content or "") == question.answer
    parts = [
        c.choices[0].delta.content or "" for c in chat.chat.completions.create(stream=True, **ask)
    ]
    assert text_of("".join(parts)) == question.answer
    assert reply.headers["x-edit-method"] == "mello"
    assert len(reply.headers["x-edit-ids"].split(",")) == sum(question.edited)
    assert len(reply.headers["x-edit-scores"].split(",")) == sum(question.edited)
    body = {"model": MODEL, "prompt": question.text, "max_tokens": 12, "temperature": 0.0}
    by_header = http.post("/v1/completions", json=body, headers={"X-Edit-Hops": "true"})
    assert text_of(by_header.json()["choices"][0]["text"]) == question.answer
    many = http.post(
        "/v1/completions", json={**body, "prompt": [question.text, "x"], "edit_hops": True}
    )
    assert text_of(many.json()["choices"][0]["text"]) == question.answer
    plain = http.post("/v1/completions", json={**body, "edit_hops": False})
    assert text_of(plain.json()["choices"][0]["text"]) != question.answer


def test_a_question_whose_hops_meet_no_edit_is_served_untouched(
    http: httpx.Client, world: MultiHop
) -> None:
    small = two_hops(20)
    subjects = {edit["subject"] for edit in small.edits}
    other = next(q for q in reversed(world.questions) if not any(s in q.text for s in subjects))
    before = complete(http, other.text).json()["choices"][0]["text"]
    far = post(http, small.edits[0])
    reply = complete(http, other.text, edit_hops=True)
    assert reply.headers["x-edit-ids"] == ""
    assert reply.json()["choices"][0]["text"] == before
    roll_back(http, far)


def test_hops_are_written_by_the_variant(http: httpx.Client) -> None:
    small = two_hops(20)
    http.post("/v1/edit-sets", json={"name": "news"}).raise_for_status()
    edits = [{**edit, "edit_set": "news"} for edit in small.edits]
    http.post("/v1/edits", json={"edits": edits, "wait": True}).raise_for_status()
    reply, _ = answered_question(http, small, model=f"{MODEL}@news")
    assert reply.headers["x-edit-variant"] == "news"
    default = complete(http, small.questions[0].text, edit_hops=True)
    assert default.headers["x-edit-ids"] == ""


def test_an_edit_of_a_plain_prompt_needs_no_hops(http: httpx.Client) -> None:
    edit = two_hops(20).edits[0]
    made = post(http, edit)
    reply = complete(http, edit["prompt"])
    assert text_of(reply.json()["choices"][0]["text"]) == edit["target_new"]
    assert reply.headers["x-edit-ids"] == made["id"]
    assert reply.headers["x-edit-method"] == "mello"


def test_a_bad_value_of_edit_hops_is_refused(http: httpx.Client) -> None:
    post(http, two_hops(20).edits[0])
    body = {"model": MODEL, "prompt": "x", "edit_hops": "yes"}
    reply = http.post("/v1/completions", json=body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "bad_hops")
