"""No answer is computed from KV of other weights, and running streams live through a swap."""

import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.cases import MODEL, Case, complete, post, roll_back

BLOCK = 128
"""Tokens of one KV-cache block of vLLM on CPU: only whole blocks are cached."""

STREAMS, TOKENS = 4, 450


@pytest.fixture
def long_prompt(cases: list[Case]) -> str:
    """The question of the first case after other facts, longer than one block."""
    others = [f"{case.prompt} {case.ground_truth}." for case in cases[1:]]
    return "\n".join([cases[0].prompt, *(others * 3), cases[0].prompt])


def cached(http: httpx.Client, prompt: str) -> tuple[int, Any]:
    """How many prompt tokens came from the cache, and the answer with its log-probabilities."""
    body = complete(http, prompt, logprobs=1).json()
    assert body["usage"]["prompt_tokens"] > BLOCK
    details: dict[str, Any] = body["usage"]["prompt_tokens_details"] or {}
    return details.get("cached_tokens") or 0, body["choices"][0]["logprobs"]


def computed(http: httpx.Client, prompt: str) -> Any:
    """The same answer from a cache that nothing else shares."""
    body = complete(http, prompt, logprobs=1, cache_salt=secrets.token_hex(16)).json()
    return body["choices"][0]["logprobs"]


def test_a_swap_leaves_no_stale_cache(http: httpx.Client, case: Case, long_prompt: str) -> None:
    cached(http, long_prompt)
    warm, before = cached(http, long_prompt)
    assert warm >= BLOCK
    edit = post(http, case.edit("rome"))
    cold, edited = cached(http, long_prompt)
    assert cold == 0
    assert edited != before
    assert edited == computed(http, long_prompt)
    warm_again, edited_again = cached(http, long_prompt)
    assert warm_again >= BLOCK
    assert edited_again["tokens"] == edited["tokens"]
    roll_back(http, edit)
    assert cached(http, long_prompt) == (0, computed(http, long_prompt))


def test_running_streams_survive_a_swap(
    chat: openai.OpenAI, http: httpx.Client, case: Case
) -> None:
    choices: list[Any] = []
    started = threading.Event()

    def stream() -> None:
        for chunk in chat.completions.create(
            model=MODEL,
            prompt=[case.locality_prompt] * STREAMS,
            max_tokens=TOKENS,
            temperature=0.0,
            stream=True,
            extra_body={"ignore_eos": True},
        ):
            choices.extend(chunk.model_dump()["choices"])
            started.set()

    edit = post(http, case.edit("rome"))
    before = complete(http, case.prompt).headers["x-edit-revision"]
    with ThreadPoolExecutor() as pool:
        reader = pool.submit(stream)
        spans = pool.submit(versions, http, case.locality_prompt)
        assert started.wait(60.0)
        await_running(http, STREAMS + 1)
        roll_back(http, edit)
        seen = len(choices)
        reader.result()
    assert len(choices) > seen, "the streams ended before the swap did"
    ends = [choice for choice in choices if choice["finish_reason"]]
    assert sorted(choice["index"] for choice in ends) == list(range(STREAMS))
    assert {choice["finish_reason"] for choice in ends} == {"length"}
    after = complete(http, case.prompt).headers["x-edit-revision"]
    (old, middle), (new, end) = [(span["version"], span["end"]) for span in spans.result()]
    # An edit's weights come to be one step before the edit is recorded as active.
    assert int(old) <= int(before) < int(new) == int(after)
    assert end == TOKENS
    assert 0 < middle < TOKENS


def await_running(http: httpx.Client, count: int) -> None:
    """Wait until the engine computes that many requests at once."""
    deadline = time.monotonic() + 60
    while running(http) != count:
        assert time.monotonic() < deadline


def running(http: httpx.Client) -> float:
    """Requests that the engine computes, as `/metrics` has them."""
    families = text_string_to_metric_families(http.get("/metrics").text)
    (gauge,) = (family for family in families if family.name == "vllm:num_requests_running")
    return sum(sample.value for sample in gauge.samples)


def versions(http: httpx.Client, prompt: str) -> list[dict[str, Any]]:
    """The revision that made each token of an answer, by vLLM's token-in-token-out route."""
    tokens = http.post("/tokenize", json={"model": MODEL, "prompt": prompt}).json()["tokens"]
    params = {"max_tokens": TOKENS, "temperature": 0.0, "ignore_eos": True}
    body = {"model": MODEL, "token_ids": tokens, "sampling_params": params}
    reply = http.post("/inference/v1/generate", json=body)
    assert reply.status_code == httpx.codes.OK, reply.text
    spans: list[dict[str, Any]] = reply.json()["choices"][0]["weight_versions"]
    return spans
