"""The counterfactual model's process: `python -m vllm_edit.serac.process --model FOLDER --fd N`.

It serves on a socket that the process which starts it listens on already. It ends on SIGTERM, and
when that process is gone.
"""

import argparse
import logging
import os
import signal
import socket
import sys
import threading
from pathlib import Path

import uvicorn
from transformers.utils import logging as transformers_logging

from vllm_edit.domain.errors import EditError
from vllm_edit.processes.load_model import load
from vllm_edit.serac.app import App
from vllm_edit.serac.generation import Generator

_PARENT_POLL_SECONDS = 0.5

logger = logging.getLogger(__name__)


def main() -> int:
    """Serve until told to stop; status 1 when the model cannot be loaded."""
    args = _arguments()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s [serac] %(message)s")
    transformers_logging.disable_progress_bar()
    # SIGTERM keeps its default: a handler in Python would wait for the interpreter, and nothing is
    # lost by ending at once.
    # Ctrl-C reaches every process of the terminal; the server decides when this one stops.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    listening = socket.socket(fileno=args.fd)
    if args.parent:
        threading.Thread(target=_end_with, args=(args.parent,), daemon=True).start()
    try:
        generator = Generator(*load(args.model, args.device))
    except EditError as error:
        logger.error("%s", error.message)  # noqa: TRY400 - the message says it all
        return 1
    app = App(generator, args.model.name, args.threads)
    config = uvicorn.Config(
        app.asgi, log_config=None, access_log=False, lifespan="off", loop="asyncio", ws="none"
    )
    # On a thread that is not the main one, uvicorn leaves signals alone.
    server = threading.Thread(
        target=uvicorn.Server(config).run, kwargs={"sockets": [listening]}, daemon=True
    )
    server.start()
    server.join()
    return 1


def _end_with(parent: int) -> None:
    """End this process when it is no longer the child of `parent`, even while it generates."""
    stop = threading.Event()
    while os.getppid() == parent:
        stop.wait(_PARENT_POLL_SECONDS)
    os._exit(1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m vllm_edit.serac.process")
    parser.add_argument("--model", type=Path, required=True, help="checkpoint folder")
    parser.add_argument("--fd", type=int, required=True, help="socket that listens")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads to compute with")
    parser.add_argument("--parent", type=int, help="end when this is not the parent process")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
