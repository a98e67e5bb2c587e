"""Server-sent events, split anywhere."""

from collections.abc import AsyncIterator

import httpx
import pytest

from vllm_edit.domain.errors import CounterfactualFailed
from vllm_edit.serac.server_sent_events import encode_event, read_events, with_model_name


def _response(data: bytes, size: int) -> httpx.Response:
    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(data), size):
            yield data[at : at + size]

    return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=chunks())


@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_events_are_reassembled(size: int) -> None:
    # A line separator in Python, but neither in JSON nor in the standard.
    sent = [{"text": "a\u2028b\x85c"}, {"text": "d\r\n"}, {}]
    second = b'data:{"text":"d\\r\\n"}\r\n\r\n'
    data = b": a comment\n\n" + encode_event(sent[0]) + second + encode_event({})
    assert [e async for e in read_events(_response(data, size))] == sent
    ended = data + b"data: [DONE]\n\n" + encode_event({"late": 1})
    assert [e async for e in read_events(_response(ended, size))] == sent


@pytest.mark.parametrize("data", [b"data: {\n\n", b"data: 1\n\n", b"data: \xff\n\n"])
async def test_an_invalid_event_is_refused(data: bytes) -> None:
    with pytest.raises(CounterfactualFailed) as caught:
        [e async for e in read_events(_response(data, 99))]
    assert caught.value.code == "counterfactual_unreadable"


def test_the_name_is_set_only_if_there_is_one() -> None:
    assert with_model_name({"model": "a", "x": 1}, "b") == {"model": "b", "x": 1}
    assert with_model_name({"error": {}}, "b") == {"error": {}}
