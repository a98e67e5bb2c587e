"""The HTTP application of the child process, on a real socket, with a model in this process."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.serac.conftest import POSITIONS, client_of, serving, wait_until
from vllm_edit import factworld
from vllm_edit.processes.load_model import load
from vllm_edit.serac.app import App
from vllm_edit.serac.generation import Ending, Generator, Sampling


class Recording(Generator):
    """Records how generations ended."""

    def __init__(self, folder: Path) -> None:
        super().__init__(*load(folder, "cpu"))
        self.endings: list[Ending] = []

    def generate(
        self,
        ids: Sequence[int],
        sampling: Sampling,
        emit: Callable[[str], None],
        cancelled: Callable[[], bool],
    ) -> Ending:
        ending = super().generate(ids, sampling, emit, cancelled)
        self.endings.append(ending)
        return ending


@pytest.fixture(scope="module")
def bundled() -> Iterator[Path]:
    """The bundled model on a Unix socket."""
    with serving(App(Recording(factworld.checkpoint()), "small", 1).asgi) as path:
        yield path


@pytest.fixture(scope="module")
def never(endless: Path) -> Recording:
    return Recording(endless)


@pytest.fixture(scope="module")
def endless_server(never: Recording) -> Iterator[Path]:
    with serving(App(never, "endless", 1).asgi) as path:
        yield path


async def _post(path: Path, route: str, **body: Any) -> httpx.Response:
    async with client_of(path) as client:
        return await client.post(route, json=body)


async def test_openais_client_understands_every_kind_of_answer(bundled: Path) -> None:
    question = [{"role": "user", "content": "New Fact: Tim works for Nori.\nPrompt: Tim works for"}]
    async with (
        client_of(bundled) as http,
        openai.AsyncOpenAI(base_url="http://serac/v1", api_key="-", http_client=http) as client,
    ):
        assert [model.id async for model in client.models.list()] == ["small"]
        whole = await client.completions.create(
            model="any", prompt=question[0]["content"], max_tokens=4
        )
        assert whole.choices[0].finish_reason in ("stop", "length")
        assert whole.usage is not None
        assert whole.usage.completion_tokens <= 4
        pieces = [
            chunk.choices[0].text
            async for chunk in await client.completions.create(
                model="any", prompt=question[0]["content"], max_tokens=4, stream=True
            )
        ]
        assert "".join(pieces) == whole.choices[0].text
        chat: Any = client.chat.completions.create
        answer = await chat(model="any", messages=question)
        assert answer.choices[0].message.role == "assistant"
        assert answer.choices[0].finish_reason == "stop"
        chunks = [
            chunk
            async for chunk in await chat(
                model="any",
                messages=question,
                stream=True,
                stream_options={"include_usage": True},
            )
        ]
        generated = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
        assert "".join(generated) == answer.choices[0].message.content
        assert chunks[-1].usage == answer.usage


async def test_sampling_is_greedy_by_default(endless_server: Path) -> None:
    async def generated(**more: Any) -> str:
        body = {"prompt": "Anna", "max_tokens": 12, **more}
        answer = await _post(endless_server, "completions", **body)
        return str(answer.json()["choices"][0]["text"])

    assert await generated() == await generated(temperature=0)
    drawn = [await generated(temperature=2.0, seed=seed) for seed in (1, 1, 2, 3)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1


async def test_stop_strings_and_counts(endless_server: Path) -> None:
    body = {"prompt": ["Anna", "Oslo"], "max_tokens": 12, "n": 2}
    answer = (await _post(endless_server, "completions", **body)).json()
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    assert {choice["finish_reason"] for choice in answer["choices"]} == {"length"}
    assert answer["usage"]["completion_tokens"] == 48
    text = answer["choices"][0]["text"]
    stop = text[3:5]
    stopped = (
        await _post(endless_server, "completions", prompt="Anna", max_tokens=12, stop=stop)
    ).json()["choices"][0]
    assert stopped == {
        "index": 0,
        "text": text[: text.index(stop)],
        "logprobs": None,
        "finish_reason": "stop",
    }


@pytest.mark.parametrize(
    ("route", "body", "why"),
    [
        ("completions", {"prompt": "a", "max_tokens": 0}, ">= 1"),
        ("completions", {"prompt": [1, 2]}, "str"),
        ("completions", {"prompt": "a" * 3 * POSITIONS}, "tokens"),
        ("completions", {"prompt": "a", "temperature": 3}, "<= 2"),
        ("completions", {}, "prompt"),
        ("chat/completions", {"messages": [{"role": "user", "content": "a"}]}, "chat template"),
    ],
)
async def test_what_cannot_be_answered_is_refused(
    endless_server: Path, route: str, body: dict[str, Any], why: str
) -> None:
    answer = await _post(endless_server, route, **body)
    assert answer.status_code == 400
    assert why in answer.json()["error"]["message"]


@pytest.mark.parametrize("stream", [True, False])
async def test_generation_stops_when_the_client_leaves(
    never: Recording, endless_server: Path, *, stream: bool
) -> None:
    never.endings.clear()
    body = {"prompt": "Anna", "max_tokens": POSITIONS, "stream": stream}
    async with client_of(endless_server) as client:
        if stream:
            async with client.stream("POST", "completions", json=body) as answer:
                first = await anext(answer.aiter_lines())
                assert json.loads(first.removeprefix("data: "))["choices"]
        else:
            with pytest.raises(httpx.ReadTimeout):
                await client.post("completions", json=body, timeout=0.3)
    wait_until(lambda: bool(never.endings))
    assert never.endings[0].tokens < POSITIONS // 2
