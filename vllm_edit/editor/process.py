"""The editor process: `python -m vllm_edit.editor.process --model FOLDER --socket ipc://…`.

It answers one request at a time. It ends on SIGTERM, and when the process that started it is
gone. An error that nobody foresaw ends it too: the client then reports it and starts a new one.
"""

import argparse
import logging
import os
import signal
import threading
import time
from pathlib import Path

import msgspec
import torch
import zmq
from transformers.utils import logging as transformers_logging

from vllm_edit.domain.errors import EditError
from vllm_edit.editor.messages import (
    MAX_BYTES,
    Done,
    Failed,
    Prepare,
    Progress,
    Ready,
    Reply,
    Request,
    decode_request,
    encode,
)
from vllm_edit.editor.workbench import Options, Workbench
from weight_patchers import Edit, PatcherError

_PARENT_POLL_SECONDS = 0.5
_NICENESS = 10
"""Below the server's: who asks goes before who edits."""


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
            self._send(peer, self._answer(peer, request))

    def _answer(self, peer: bytes, request: Request) -> Reply:
        try:
            return self._carry_out(peer, request)
        except (PatcherError, EditError) as error:
            return Failed(request.id, error.code, str(error))
        except (MemoryError, torch.OutOfMemoryError) as error:
            return Failed(request.id, "out_of_memory", f"The editor has too little memory: {error}")
        except OSError as error:
            return Failed(request.id, "editor_io", f"The editor cannot use a file: {error}")

    def _carry_out(self, peer: bytes, request: Request) -> Reply:
        def progress(stage: str, done: int, of: int) -> None:
            self._send(peer, Progress(request.id, stage, done, of))

        if isinstance(request, Prepare):
            return Ready(request.id, self._workbench.prepare(request.methods, progress))
        start = time.monotonic()
        delta = self._workbench.compute(
            request.method,
            [Edit(fact.prompt, fact.subject, fact.target_new) for fact in request.facts],
            request.hyperparameters,
            request.bounds,
            [Path(path) for path in request.live],
            Path(request.output),
            progress,
        )
        seconds = time.monotonic() - start
        return Done(request.id, request.output, seconds, dict(delta.diagnostics))

    def _send(self, peer: bytes, reply: Reply) -> None:
        self._socket.send_multipart([peer, encode(reply)])


def main() -> None:
    """Serve until told to stop."""
    args = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s [editor] %(message)s")
    transformers_logging.disable_progress_bar()
    # SIGTERM keeps its default: a handler in Python would wait for the interpreter, and nothing is
    # lost by ending at once, as files are written whole or not at all.
    # Ctrl-C reaches every process of the terminal; the server decides when the editor stops.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if args.parent:
        threading.Thread(target=_end_with, args=(args.parent,), daemon=True).start()
    os.nice(_NICENESS)
    torch.set_num_threads(args.threads)
    options = Options(args.model, args.statistics_dir, args.statistics_text, args.device)
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_BYTES)
        socket.bind(args.socket)
        Server(socket, Workbench(options)).run()


def _end_with(parent: int) -> None:
    """End this process when it is no longer the child of `parent`, even in a long computation."""
    while os.getppid() == parent:
        time.sleep(_PARENT_POLL_SECONDS)
    os._exit(1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m vllm_edit.editor.process")
    parser.add_argument("--model", type=Path, required=True, help="checkpoint folder")
    parser.add_argument("--socket", required=True, help="address to bind, ipc://…")
    parser.add_argument("--statistics-dir", type=Path, required=True)
    parser.add_argument("--statistics-text", type=Path, help="text file or folder of .txt files")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads to compute with")
    parser.add_argument("--parent", type=int, help="end when this is not the parent process")
    return parser.parse_args()


if __name__ == "__main__":
    main()
