"""What the server and the editor process send each other: msgpack over ZeroMQ, no pickle.

The server sends a request and gets exactly one reply with its `id`. Bytes that are no request get
a Failed with the empty id.
"""

from typing import Any, TypeAlias

import msgspec

MAX_BYTES = 16 << 20


class RequestedEdit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One edit to compute; `prompt` contains `subject`."""

    id: str
    prompt: str
    subject: str
    target_new: str
    ground_truth: str | None = None


class Prepare(msgspec.Struct, frozen=True, tag="prepare", forbid_unknown_fields=True):
    """Load the model and the statistics that the methods need. Answered by Ready.

    `methods` holds, by method, values that replace single hyperparameters, as in Compute.
    """

    id: str
    methods: dict[str, dict[str, Any]]


class Compute(msgspec.Struct, frozen=True, tag="compute", forbid_unknown_fields=True):
    """Compute one delta for `edits` on top of the delta files `live`. Answered by Done.

    `hyperparameters` replace single values of those that the method has for the model, `bounds`
    those of the governor. The delta is written to the path `output`, whole or not at all.
    """

    id: str
    method: str
    edits: list[RequestedEdit]
    output: str
    live: list[str] = []
    hyperparameters: dict[str, Any] = {}
    bounds: dict[str, Any] = {}


class Ready(msgspec.Struct, frozen=True, tag="ready", forbid_unknown_fields=True):
    """The model with this content fingerprint is loaded."""

    id: str
    fingerprint: str


class Done(msgspec.Struct, frozen=True, tag="done", forbid_unknown_fields=True):
    """The delta is on disk at `path`; it took `seconds`, loading included."""

    id: str
    path: str
    seconds: float
    diagnostics: dict[str, Any]


class Failed(msgspec.Struct, frozen=True, tag="failed", forbid_unknown_fields=True):
    """Nothing was written. `code` is stable; `message` tells a person what to do next."""

    id: str
    code: str
    message: str


ComputeRequest: TypeAlias = Prepare | Compute
ComputeReply: TypeAlias = Ready | Done | Failed

_encoder = msgspec.msgpack.Encoder()
_requests: msgspec.msgpack.Decoder[ComputeRequest] = msgspec.msgpack.Decoder(Prepare | Compute)
_replies: msgspec.msgpack.Decoder[ComputeReply] = msgspec.msgpack.Decoder(Ready | Done | Failed)


def encode(message: ComputeRequest | ComputeReply) -> bytes:
    return _encoder.encode(message)


def decode_request(data: bytes) -> ComputeRequest:
    """Raises msgspec.DecodeError (or its subclass ValidationError) for anything else."""
    return _requests.decode(data)


def decode_reply(data: bytes) -> ComputeReply:
    """Raises msgspec.DecodeError (or its subclass ValidationError) for anything else."""
    return _replies.decode(data)
