"""The editor process: `python -m vllm_edit.editor.process --model FOLDER --socket ipc://…`.

It answers one request at a time. It ends on SIGTERM, and when the process that started it is
gone. An unforeseen error ends it too: the client then reports that and starts a new process.
"""

import argparse
import logging
import os
import time
from pathlib import Path

import msgspec
import torch
import zmq
from transformers.utils import logging as transformers_logging

from vllm_edit.domain.errors import EditError
from vllm_edit.editor.messages import (
    MAX_BYTES,
    ComputeReply,
    ComputeRequest,
    Done,
    Failed,
    Prepare,
    Ready,
    decode_request,
    encode,
)
from vllm_edit.editor.workbench import Options, Workbench
from vllm_edit.processes.child import argument_parser, end_with
from weight_patchers import Edit, PatcherError

_NICENESS = 10
"""Below the server's priority: answers go before edits."""


class Server:
    """Answers requests from one ROUTER socket."""

    def __init__(self, socket: "zmq.Socket[bytes]", workbench: Workbench) -> None:
        self._socket = socket
        self._workbench = workbench

    def run(self) -> None:
        while True:
            peer, *parts = self._socket.recv_multipart()
            try:
                request = decode_request(b"".join(parts))
            except msgspec.DecodeError as error:
                self._send(peer, Failed("", "bad_message", f"This is no request: {error}"))
                continue
            self._send(peer, self._answer(request))

    def _answer(self, request: ComputeRequest) -> ComputeReply:
        try:
            return self._carry_out(request)
        except (PatcherError, EditError) as error:
            return Failed(request.id, error.code, str(error))
        except (MemoryError, torch.OutOfMemoryError) as error:
            return Failed(request.id, "out_of_memory", f"The editor has too little memory: {error}")
        except OSError as error:
            return Failed(request.id, "editor_io", f"The editor cannot use a file: {error}")

    def _carry_out(self, request: ComputeRequest) -> Ready | Done:
        if isinstance(request, Prepare):
            return Ready(request.id, self._workbench.prepare(request.methods))
        start = time.monotonic()
        delta = self._workbench.compute(
            request.method,
            [
                Edit(edit.prompt, edit.subject, edit.target_new, edit.ground_truth)
                for edit in request.edits
            ],
            request.hyperparameters,
            request.bounds,
            [Path(path) for path in request.live],
            Path(request.output),
        )
        seconds = time.monotonic() - start
        return Done(request.id, request.output, seconds, dict(delta.diagnostics))

    def _send(self, peer: bytes, reply: ComputeReply) -> None:
        self._socket.send_multipart([peer, encode(reply)])


def main() -> None:
    """Serve until told to stop."""
    args = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s [editor] %(message)s")
    transformers_logging.disable_progress_bar()
    end_with(args.parent)
    os.nice(_NICENESS)
    torch.set_num_threads(args.threads)
    options = Options(
        args.model, args.statistics_dir, args.statistics_text, args.device, args.trained_dir
    )
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_BYTES)
        socket.bind(args.socket)
        Server(socket, Workbench(options)).run()


def _arguments() -> argparse.Namespace:
    parser = argument_parser("vllm_edit.editor.process")
    parser.add_argument("--socket", required=True, help="address to bind, ipc://…")
    parser.add_argument("--statistics-dir", type=Path, required=True)
    parser.add_argument("--statistics-text", type=Path, help="text file or folder of .txt files")
    parser.add_argument("--trained-dir", type=Path, help="folder of trained editors")
    return parser.parse_args()


if __name__ == "__main__":
    main()
