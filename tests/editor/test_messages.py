import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_edit.editor import messages
from vllm_edit.editor.messages import Compute, Done, Failed, Prepare, Ready, RequestedEdit

REQUESTS = [
    Prepare("1", {"rome": {"layer": 1}, "memit": {}}),
    Compute(
        "2",
        "rome",
        [RequestedEdit("e", "Anna lives in", "Anna", "Oslo")],
        "/tmp/delta",  # noqa: S108
        live=["/tmp/live"],  # noqa: S108
        hyperparameters={"layer": 1, "clamp": None, "kl_prompts": ["{subject} is a"]},
        bounds={"norm_refuse": 3, "drift_refuse": None},
    ),
]
REPLIES = [
    Ready("1", "f" * 64),
    Done("2", "delta", 0.5, {"edits": [{"steps": 3}]}),
    Failed("3", "invalid_edit", "The subject is not in the prompt."),
]


@pytest.mark.parametrize("request_", REQUESTS)
def test_requests_arrive_as_they_were_sent(request_: messages.ComputeRequest) -> None:
    assert messages.decode_request(messages.encode(request_)) == request_


@pytest.mark.parametrize("reply", REPLIES)
def test_replies_arrive_as_they_were_sent(reply: messages.ComputeReply) -> None:
    assert messages.decode_reply(messages.encode(reply)) == reply


@pytest.mark.parametrize(
    "content",
    [
        {"type": "compute", "id": "1"},
        {"type": "prepare", "id": 1, "methods": {}},
        {"type": "prepare", "id": "1", "methods": {}, "extra": 1},
        {"type": "prepare", "id": "1", "methods": ["rome"]},
        {"type": "shutdown", "id": "1"},
        {"id": "1", "methods": {}},
        [1, 2],
        None,
    ],
)
def test_anything_else_is_no_request(content: object) -> None:
    with pytest.raises(msgspec.DecodeError):
        messages.decode_request(msgspec.msgpack.encode(content))


@settings(deadline=None)
@given(st.binary(max_size=64))
def test_bytes_are_decoded_or_refused(data: bytes) -> None:
    for decode in (messages.decode_request, messages.decode_reply):
        try:
            decode(data)
        except msgspec.DecodeError:
            continue
