"""What the server and the editor process say to each other: msgpack over ZeroMQ, no pickle.

The server sends a Request and gets, for its `id`, any number of Progress and then exactly one of
Ready, Done and Failed. Bytes that are no request get a Failed with the empty id.
"""

from typing import Any, TypeAlias

import msgspec

MAX_BYTES = 16 << 20


class Fact(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One edit to compute; `prompt` contains `subject`."""

    id: str
    prompt: str
    subject: str
    target_new: str


class Prepare(msgspec.Struct, frozen=True, tag="prepare", forbid_unknown_fields=True):
    """Load the model and the statistics that the methods need. Answered by Ready.

    `methods` holds, by method, values that replace single hyperparameters, as in Compute.
    """

    id: str
    methods: dict[str, dict[str, Any]]


class Compute(msgspec.Struct, frozen=True, tag="compute", forbid_unknown_fields=True):
    """Compute one delta for `facts` on top of the delta files `live`. Answered by Done.

    `hyperparameters` replace single values of those that the method has for the model, `bounds`
    those of the governor. The delta is written to the path `output`, whole or not at all.
    """

    id: str
    method: str
    facts: list[Fact]
    output: str
    live: list[str] = []
    hyperparameters: dict[str, Any] = {}
    bounds: dict[str, Any] = {}


class Progress(msgspec.Struct, frozen=True, tag="progress", forbid_unknown_fields=True):
    """`stage` is `loading`, `statistics` or `editing`; `done` of `of` steps are behind.

    What a step of editing is depends on the method: an edit, or a step of an optimisation.
    """

    id: str
    stage: str
    done: int
    of: int


class Ready(msgspec.Struct, frozen=True, tag="ready", forbid_unknown_fields=True):
    """The model with this content fingerprint is loaded."""

    id: str
    fingerprint: str


class Done(msgspec.Struct, frozen=True, tag="done", forbid_unknown_fields=True):
    """The delta is on disk at `path`; `seconds` were spent on it, loading included."""

    id: str
    path: str
    seconds: float
    diagnostics: dict[str, Any]


class Failed(msgspec.Struct, frozen=True, tag="failed", forbid_unknown_fields=True):
    """Nothing was written. `code` is stable; `message` tells a person what to do next."""

    id: str
    code: str
    message: str


Request: TypeAlias = Prepare | Compute
Reply: TypeAlias = Progress | Ready | Done | Failed

_encoder = msgspec.msgpack.Encoder()
_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Prepare | Compute)
_replies: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Progress | Ready | Done | Failed)


def encode(message: Request | Reply) -> bytes:
    return _encoder.encode(message)


def decode_request(data: bytes) -> Request:
    """Raises msgspec.DecodeError (or its subclass ValidationError) for anything else."""
    return _requests.decode(data)


def decode_reply(data: bytes) -> Reply:
    """Raises msgspec.DecodeError (or its subclass ValidationError) for anything else."""
    return _replies.decode(data)
