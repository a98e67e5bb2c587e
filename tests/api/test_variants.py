"""Variants on the real server: base, default and edit sets, side by side and kept apart."""

import asyncio
import time
from collections import Counter
from typing import Any

import httpx
import openai
import pytest

from tests.cases import MODEL, Case, complete, post, roll_back, text_of
from vllm_edit.processes.server import ServerProcess


def name(variant: str) -> str:
    return f"{MODEL}@{variant}"


def answer_of(http: httpx.Client, prompt: str, variant: str, **more: Any) -> str:
    reply = complete(http, prompt, model=name(variant), stop=["\n"], **more)
    assert reply.headers["x-edit-variant"] == variant
    return text_of(reply.json()["choices"][0]["text"])


def tokens_of(http: httpx.Client, prompt: str, variant: str) -> tuple[list[str], list[float]]:
    reply = complete(http, prompt, model=name(variant), logprobs=1)
    logprobs = reply.json()["choices"][0]["logprobs"]
    return logprobs["tokens"], logprobs["token_logprobs"]


def make_set(http: httpx.Client, edit_set: str, **more: Any) -> dict[str, Any]:
    reply = http.post("/v1/edit-sets", json={"name": edit_set, **more})
    assert reply.status_code == httpx.codes.CREATED, reply.text
    made: dict[str, Any] = reply.json()
    return made


def change(http: httpx.Client, edit_set: str, **fields: Any) -> dict[str, Any]:
    reply = http.patch(f"/v1/edit-sets/{edit_set}", json=fields)
    assert reply.status_code == httpx.codes.OK, reply.text
    changed: dict[str, Any] = reply.json()
    return changed


def refusal(reply: httpx.Response) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]["code"]


def listed(http: httpx.Client, **headers: str) -> set[str]:
    models = http.get("/v1/models", headers=headers).json()["data"]
    return {model["id"] for model in models}


async def test_base_memory_and_weights_answer_side_by_side(
    server: ServerProcess, http: httpx.Client, cases: list[Case]
) -> None:
    weights, memory = cases[:2]
    make_set(http, "weights")
    make_set(http, "memory")
    post(http, weights.edit("rome", edit_set="weights"))
    post(http, memory.edit("ike", edit_set="memory"))
    expected = {
        ("base", weights): weights.ground_truth,
        ("base", memory): memory.ground_truth,
        ("default", weights): weights.ground_truth,
        ("weights", weights): weights.target_new,
        ("weights", memory): memory.ground_truth,
        ("memory", weights): weights.ground_truth,
        ("memory", memory): memory.target_new,
    }
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="-") as client:

        async def ask(variant: str, case: Case) -> str:
            answer = await client.completions.create(
                model=name(variant), prompt=case.prompt, max_tokens=12, temperature=0.0
            )
            return text_of(answer.choices[0].text)

        for _ in range(3):
            answers = await asyncio.gather(*(ask(*question) for question in expected))
            assert answers == list(expected.values())


def test_merged_and_adapter_agree_and_base_stays(http: httpx.Client, cases: list[Case]) -> None:
    case, other = cases[:2]
    prompts = [p for c in cases for p in (c.prompt, c.rephrase_prompt, c.locality_prompt)]
    base = [tokens_of(http, prompt, "default") for prompt in prompts]
    make_set(http, "news")
    for each, method in ((case, "rome"), (other, "memit")):
        post(http, each.edit(method, edit_set="news"))
    beside = [tokens_of(http, prompt, "news") for prompt in prompts]
    assert beside != base
    assert [tokens_of(http, prompt, "default") for prompt in prompts] == base
    change(http, "news", active=True)
    merged = [tokens_of(http, prompt, "default") for prompt in prompts]
    for variant, before, now in (
        *(("default", *pair) for pair in zip(beside, merged, strict=True)),
        *(
            ("base", before, tokens_of(http, prompt, "base"))
            for prompt, before in zip(prompts, base, strict=True)
        ),
        *(
            ("news", before, tokens_of(http, prompt, "news"))
            for prompt, before in zip(prompts, beside, strict=True)
        ),
    ):
        assert now[0] == before[0], variant
        assert now[1] == pytest.approx(before[1], abs=2e-3), variant
    change(http, "news", active=False)
    assert [tokens_of(http, prompt, "default") for prompt in prompts] == base


def test_a_set_changes_beside_merged_edits(http: httpx.Client, cases: list[Case]) -> None:
    inside, outside, later = cases[:3]
    make_set(http, "news")
    first = post(http, inside.edit("rome", edit_set="news"))
    merged = post(http, outside.edit("rome"))
    post(http, later.edit("rome", edit_set="news"))
    assert [answer_of(http, c.prompt, "news") for c in cases[:3]] == [
        inside.target_new,
        outside.ground_truth,
        later.target_new,
    ]
    roll_back(http, first)
    assert answer_of(http, inside.prompt, "news") == inside.ground_truth
    assert answer_of(http, later.prompt, "news") == later.target_new
    assert answer_of(http, outside.prompt, "default") == outside.target_new
    roll_back(http, merged)
    assert answer_of(http, later.prompt, "news") == later.target_new


def test_a_variant_is_chosen_by_model_header_or_field(
    http: httpx.Client, chat: openai.OpenAI, cases: list[Case]
) -> None:
    case = cases[0]
    make_set(http, "news")
    post(http, case.edit("ike", edit_set="news"))
    by_header = complete(http, case.prompt, stop=["\n"])
    assert by_header.headers["x-edit-variant"] == "default"
    headers = {"X-Edit-Variant": "news"}
    body = {"model": MODEL, "prompt": case.prompt, "max_tokens": 12, "temperature": 0.0}
    reply = http.post("/v1/completions", json=body, headers=headers)
    assert reply.headers["x-edit-variant"] == "news"
    assert text_of(reply.json()["choices"][0]["text"]) == case.target_new
    answer = chat.completions.create(**body, extra_body={"edit_variant": "news"})
    assert text_of(answer.choices[0].text) == case.target_new
    for bad, expected in (
        ({"model": name("nothing")}, (404, "unknown_variant")),
        ({"edit_variant": "nothing"}, (404, "unknown_variant")),
        ({"model": name("base"), "edit_variant": "news"}, (400, "conflicting_variants")),
        ({"model": "another", "edit_variant": "news"}, (400, "conflicting_variants")),
    ):
        assert refusal(http.post("/v1/completions", json=body | bad)) == expected
    assert http.post("/v1/completions", json=body | {"model": "another"}).status_code == 404
    assert {MODEL, name("base"), name("default"), name("news")} == listed(http)


def test_a_variant_without_an_adapter_that_fits_says_why(
    http: httpx.Client, cases: list[Case]
) -> None:
    make_set(http, "tuned")
    edit = post(http, cases[0].edit("ft-m", edit_set="tuned"))
    body = {"model": name("tuned"), "prompt": cases[0].prompt, "max_tokens": 4}
    reply = http.post("/v1/completions", json=body)
    assert refusal(reply) == (503, "variant_unavailable")
    assert "ft-m" in reply.json()["error"]["message"]
    assert "ft-m" in http.get("/v1/edit-sets/tuned").json()["unavailable"]
    assert name("tuned") not in listed(http)
    change(http, "tuned", active=True)
    assert answer_of(http, cases[0].prompt, "tuned") == cases[0].target_new
    assert answer_of(http, cases[0].prompt, "default") == cases[0].target_new
    base = http.post("/v1/completions", json=body | {"model": name("base")})
    assert refusal(base) == (503, "variant_unavailable")
    roll_back(http, edit)
    assert answer_of(http, cases[0].prompt, "base") == cases[0].ground_truth


def test_default_traffic_is_split_and_sticky(http: httpx.Client, case: Case) -> None:
    make_set(http, "news")
    post(http, case.edit("ike", edit_set="news"))
    rule = {"weights": {"base": 1.0, "news": 1.0}, "by": "user"}
    assert http.put("/v1/edit-split", json=rule).status_code == httpx.codes.OK
    assert http.get("/v1/edit-split").json()["weights"] == rule["weights"]
    before = counts(http)
    seen = {}
    for number in range(20):
        user = f"user {number}"
        replies = [complete(http, case.prompt, user=user, stop=["\n"]) for _ in range(2)]
        (seen[user],) = {reply.headers["x-edit-variant"] for reply in replies}
        expected = case.target_new if seen[user] == "news" else case.ground_truth
        for reply in replies:
            assert text_of(reply.json()["choices"][0]["text"]) == expected
    shares = Counter(seen.values())
    assert set(shares) == {"base", "news"}
    assert counts(http) - before == Counter({v: 2 * n for v, n in shares.items()})
    assert answer_of(http, case.prompt, "default") == case.ground_truth
    assert refusal(http.delete("/v1/edit-sets/news")) == (409, "edit_set_in_use")
    assert http.delete("/v1/edit-split").status_code == httpx.codes.OK
    assert refusal(http.get("/v1/edit-split")) == (404, "unknown_split")
    assert complete(http, case.prompt).headers["x-edit-variant"] == "default"


def counts(http: httpx.Client) -> Counter[str]:
    """Requests by variant, as `/metrics` has them."""
    found: Counter[str] = Counter()
    for line in http.get("/metrics").text.splitlines():
        if line.startswith("vllm_edit_requests_total{"):
            variant = line.partition('variant="')[2].partition('"')[0]
            found[variant] += int(float(line.rpartition(" ")[2]))
    return found


def test_figures_of_a_set_end_with_it(http: httpx.Client, case: Case) -> None:
    make_set(http, "brief")
    post(http, case.edit("rome", edit_set="brief"))
    assert answer_of(http, case.prompt, "brief") == case.target_new
    figures = http.get("/metrics").text
    for label in ('variant="brief"', f'running_lora_adapters="{name("brief")}.'):
        assert label in figures
    http.delete("/v1/edit-sets/brief").raise_for_status()
    deadline = time.monotonic() + 20
    while "brief" in http.get("/metrics").text:
        assert time.monotonic() < deadline
    assert 'variant="default"' in figures


def test_a_stream_ends_with_the_adapter_it_began_with(
    http: httpx.Client, chat: openai.OpenAI, cases: list[Case]
) -> None:
    case = cases[0]
    make_set(http, "news")
    edit = post(http, case.edit("rome", edit_set="news"))
    ask = {"prompt": case.prompt, "max_tokens": 200, "temperature": 0.0}
    more = {"extra_body": {"ignore_eos": True}}
    whole = chat.completions.create(model=name("news"), **ask, **more).choices[0].text
    stream = chat.completions.create(model=name("news"), stream=True, **ask, **more)
    parts = [next(stream).choices[0].text]
    roll_back(http, edit)
    assert answer_of(http, case.prompt, "news") == case.ground_truth
    parts += [chunk.choices[0].text for chunk in stream if chunk.choices]
    assert "".join(parts) == whole


def test_a_stream_of_another_variant_does_not_feel_a_swap(
    http: httpx.Client, chat: openai.OpenAI, cases: list[Case]
) -> None:
    case = cases[0]
    ask = {"prompt": case.prompt, "max_tokens": 200, "temperature": 0.0}
    more = {"extra_body": {"ignore_eos": True}}
    whole = chat.completions.create(model=name("base"), **ask, **more).choices[0].text
    stream = chat.completions.create(model=name("base"), stream=True, **ask, **more)
    parts = [next(stream).choices[0].text]
    post(http, case.edit("rome"))
    assert answer_of(http, case.prompt, "default") == case.target_new
    parts += [chunk.choices[0].text for chunk in stream if chunk.choices]
    assert "".join(parts) == whole
