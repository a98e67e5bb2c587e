"""Many clients while edits come and go: every answer is of one state."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.cases import MODEL, Case, post, roll_back, text_of
from vllm_edit.processes.server import ServerProcess

CLIENTS, QUESTIONS, CHANGES = 32, 4, 6


@pytest.mark.parametrize("method", ["ike", "mello"])
async def test_no_request_sees_half_of_a_change(
    server: ServerProcess, http: httpx.Client, cases: list[Case], method: str
) -> None:
    pair = cases[:2]
    targets: dict[str, str] = {}
    expected = {case.prompt: {"": case.ground_truth} for case in pair}
    done = asyncio.Event()

    def change() -> None:
        for _ in range(CHANGES):
            edits = [post(http, case.edit(method)) for case in pair]
            targets.update({edit["id"]: edit["target_new"] for edit in edits})
            for edit in edits:
                roll_back(http, edit)

    async def ask(client: httpx.AsyncClient, case: Case) -> tuple[str, str, str]:
        body: dict[str, Any] = {
            "model": MODEL, "prompt": case.prompt, "max_tokens": 12, "temperature": 0.0
        }  # fmt: skip
        reply = await client.post("/v1/completions", json=body)
        text = text_of(reply.raise_for_status().json()["choices"][0]["text"])
        return case.prompt, reply.headers["x-edit-ids"], text

    async def client(number: int) -> list[tuple[str, str, str]]:
        answers = []
        async with httpx.AsyncClient(base_url=server.url, timeout=180.0) as session:
            while len(answers) < QUESTIONS or not done.is_set():
                answers.append(await ask(session, pair[number % 2]))
        return answers

    async def changing() -> None:
        try:
            await asyncio.to_thread(change)
        finally:
            done.set()

    *by_client, _ = await asyncio.gather(*map(client, range(CLIENTS)), changing())
    answers = [answer for client_answers in by_client for answer in client_answers or ()]
    assert {bool(ids) for _, ids, _ in answers} == {True, False}
    for prompt, ids, text in answers:
        assert text == (expected[prompt] | targets)[ids]
