"""Streams that run during a swap: none is lost, none repeats, and each token names its weights."""

import asyncio
import os
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.engine.running import PROMPT, SHARED_ENGINE, random_delta
from tests.engine.variants import variants_over
from vllm_edit.domain.errors import SwapFailed
from vllm_edit.domain.variant import BASE, DEFAULT
from vllm_edit.engine.adapter_change import AdapterChange
from vllm_edit.engine.deadlines import Deadlines
from vllm_edit.engine.grace_period import GracePeriod
from vllm_edit.engine.pace import Pace
from vllm_edit.engine.swap import Swapper
from vllm_edit.vllm_interface.engine import running_requests

pytestmark = SHARED_ENGINE

STREAMS, TOKENS = 4, 80


@dataclass
class Stream:
    """One request's output so far."""

    prompt: Any = PROMPT
    tokens: list[int] = field(default_factory=list)
    prompt_tokens: list[int] = field(default_factory=list)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    end: str | None = None
    versions: list[tuple[str, int, int]] = field(default_factory=list)

    async def run(self, client: Any, count: int = TOKENS) -> "Stream":
        """To its end; every output must continue the one before."""
        from vllm import SamplingParams

        params = SamplingParams(temperature=0.0, max_tokens=count, ignore_eos=True)
        async for part in client.generate(self.prompt, params, request_id=os.urandom(8).hex()):
            found = list(part.outputs[0].token_ids)
            assert found[: len(self.tokens)] == self.tokens
            assert len(found) > len(self.tokens) or part.finished
            self.tokens, self.prompt_tokens = found, list(part.prompt_token_ids)
            if len(found) > 5:
                self.begun.set()
            self.end = part.outputs[0].finish_reason
            self.versions = [
                (span.version, span.start, span.end)
                for span in part.outputs[0].weight_versions or ()
            ]
        return self


async def alone(client: Any, prompt: Any, count: int) -> list[int]:
    return (await Stream(prompt).run(client, count)).tokens


async def interrupted(client: Any, swapper: Swapper, mode: Any) -> list[Stream]:
    """Streams during which version "2" took the place of "1"."""
    await swapper.serve([], "1")
    streams = [Stream() for _ in range(STREAMS)]
    tasks = [asyncio.create_task(stream.run(client)) for stream in streams]
    async with asyncio.timeout(60.0):
        await asyncio.gather(*(stream.begun.wait() for stream in streams))
    await swapper.serve([random_delta(1)], "2", pause_mode=mode)
    await asyncio.gather(*tasks)
    return streams


async def test_kept_streams_go_on_under_the_new_weights(client: Any, swapper: Swapper) -> None:
    expected = await alone(client, PROMPT, TOKENS)
    streams = await interrupted(client, swapper, "keep")
    for stream in streams:
        assert stream.end == "length"
        assert len(stream.tokens) == TOKENS
        (old, start, middle), (new, again, end) = stream.versions
        assert (old, start, new, again, end) == ("1", 0, "2", middle, TOKENS)
        assert stream.tokens[:middle] == expected[:middle]
    # As if all that came before had been a prompt to the new weights.
    middle = stream.versions[0][2]
    prompt = {"prompt_token_ids": stream.prompt_tokens + stream.tokens[:middle]}
    assert stream.tokens[middle:] == await alone(client, prompt, TOKENS - middle)


async def test_awaited_streams_end_under_the_old_weights(client: Any, swapper: Swapper) -> None:
    expected = await alone(client, PROMPT, TOKENS)
    for stream in await interrupted(client, swapper, "wait"):
        assert stream.end == "length"
        assert stream.tokens == expected
        assert stream.versions == [("1", 0, TOKENS)]
    assert await alone(client, PROMPT, TOKENS) != expected


async def test_aborted_streams_say_so(client: Any, swapper: Swapper) -> None:
    expected = await alone(client, PROMPT, TOKENS)
    for stream in await interrupted(client, swapper, "abort"):
        assert stream.end == "abort"
        assert stream.tokens == expected[: len(stream.tokens)]
        assert stream.versions == [("1", 0, len(stream.tokens))]
    assert await alone(client, PROMPT, TOKENS) != expected


async def test_a_request_that_comes_in_the_pause_is_answered_after_it(
    client: Any, swapper: Swapper
) -> None:
    streams: list[asyncio.Task[Stream]] = []

    class Asking(AdapterChange):
        async def exchange(self) -> None:
            streams.append(asyncio.create_task(Stream().run(client, 8)))
            await asyncio.sleep(0)

        async def exchange_back(self) -> None:
            raise AssertionError

    await swapper.serve([random_delta(1)], "2", adapters=Asking())
    (stream,) = await asyncio.gather(*streams)
    assert stream.versions == [("2", 0, 8)]


async def test_a_swap_waits_for_requests_for_a_limited_time(client: Any, swapper: Swapper) -> None:
    hurried = Swapper(client, "wait", deadlines=Deadlines(requests=0.1))
    count = 2 * TOKENS
    expected = await alone(client, PROMPT, count)
    stream = Stream()
    task = asyncio.create_task(stream.run(client, count))
    await stream.begun.wait()
    with pytest.raises(SwapFailed, match=r"did not end within 0.1 s") as refused:
        await hurried.serve([random_delta(1)], "2")
    assert refused.value.code == "requests_running"
    await task
    assert (stream.end, stream.tokens) == ("length", expected)
    await hurried.serve([random_delta(1)], "2")
    await hurried.serve([], "default")


async def test_a_stream_that_nobody_reads_holds_up_no_change(
    client: Any, swapper: Swapper, tmp_path: Path
) -> None:
    grace, delta = GracePeriod(), random_delta(1)
    hurried = Swapper(client, "keep", deadlines=Deadlines(requests=0.1))
    variants = variants_over(client, hurried, tmp_path, grace)
    await variants.serve({DEFAULT: [], BASE: []}, "1")
    before = await client.get_weight_version()
    with grace.request(BASE):
        with pytest.raises(SwapFailed) as refused:
            await variants.serve({DEFAULT: [delta], BASE: []}, "2", "wait")
        assert refused.value.code == "requests_running"
        assert await client.get_weight_version() == before
        for mode in ("keep", "abort"):
            await variants.serve({DEFAULT: [delta], BASE: []}, "2", mode)
            assert await client.get_weight_version() == "2"
            await variants.serve({DEFAULT: [], BASE: []}, "1")
    await variants.close()


async def test_swaps_that_bring_something_are_spaced(client: Any, swapper: Swapper) -> None:
    paced = Swapper(client, "keep", pace=Pace(partial(running_requests, client), 0.25))
    first, second = random_delta(1), random_delta(2)
    streams = [Stream() for _ in range(STREAMS)]
    tasks = [asyncio.create_task(stream.run(client, 400)) for stream in streams]
    timings = []
    try:
        async with asyncio.timeout(60.0):
            await asyncio.gather(*(stream.begun.wait() for stream in streams))
            for number, deltas in enumerate(([first], [first, second], [first])):
                await paced.serve(deltas, f"paced {number}")
                assert paced.timing is not None
                timings.append(paced.timing)
        assert all(stream.end is None for stream in streams)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await paced.serve([], "default")
        await paced.close()
    one, two, three = timings
    # It takes more than the pause, and rests three times as long.
    assert two.staged - one.resumed > 3 * (one.resumed - one.paused)
    assert three.staged - two.resumed < two.staged - one.resumed
