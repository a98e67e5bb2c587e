"""No answer is computed from KV of other weights, and running streams live through a swap."""

import threading
from typing import Any

import httpx
import openai
import pytest

from tests.cases import MODEL, Case, complete, post, roll_back, text_of

BLOCK = 128
"""Tokens of one KV-cache block of vLLM on CPU: only whole blocks are cached."""


@pytest.fixture
def long_prompt(cases: list[Case]) -> str:
    """Other facts, longer than one block, and then the question of the first case."""
    others = [f"{case.prompt} {case.ground_truth}." for case in cases[1:]]
    return "\n".join([*(others * 3), cases[0].prompt])


def cached_and_text(http: httpx.Client, prompt: str) -> tuple[int, str]:
    body = complete(http, prompt).json()
    assert body["usage"]["prompt_tokens"] > BLOCK
    details: dict[str, Any] = body["usage"]["prompt_tokens_details"] or {}
    return details.get("cached_tokens") or 0, text_of(body["choices"][0]["text"])


def test_a_swap_leaves_no_stale_cache(http: httpx.Client, case: Case, long_prompt: str) -> None:
    cached_and_text(http, long_prompt)
    warm, before = cached_and_text(http, long_prompt)
    assert warm >= BLOCK
    edit = post(http, case.edit("rome"))
    cold, edited = cached_and_text(http, long_prompt)
    assert (cold, edited) == (0, case.target_new)
    warm_again, edited_again = cached_and_text(http, long_prompt)
    assert warm_again >= BLOCK
    assert edited_again == case.target_new
    roll_back(http, edit)
    assert cached_and_text(http, long_prompt) == (0, before)


def test_a_running_stream_survives_swaps_and_names_its_weights(
    chat: openai.OpenAI, http: httpx.Client, case: Case
) -> None:
    chunks: list[Any] = []
    started = threading.Event()

    def stream() -> None:
        # Several choices and no end of sequence keep it running through computation and swap.
        for chunk in chat.completions.create(
            model=MODEL,
            prompt=case.locality_prompt,
            max_tokens=450,
            temperature=0.0,
            n=4,
            stream=True,
            extra_body={"ignore_eos": True, "return_weight_versions": True},
        ):
            chunks.append(chunk)
            started.set()

    edit = post(http, case.edit("rome"))
    reader = threading.Thread(target=stream)
    reader.start()
    assert started.wait(60.0)
    taken = roll_back(http, edit)
    reader.join()
    tokens = [0] * 4
    for chunk in chunks:
        for choice in chunk.choices:
            tokens[choice.index] += 1
    assert {chunk.choices[0].finish_reason for chunk in chunks[-4:]} == {"length"}
    assert str(taken["revision"]) in repr(chunks[-1].model_dump())
