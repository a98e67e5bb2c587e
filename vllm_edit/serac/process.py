"""The counterfactual model's process: `python -m vllm_edit.serac.process --model FOLDER --fd N`.

Its parent process opens the socket on which it serves. It ends on SIGTERM, and when its parent is
gone.
"""

import logging
import socket
import sys
import threading

import uvicorn
from transformers.utils import logging as transformers_logging

from vllm_edit.domain.errors import EditError
from vllm_edit.processes.child import argument_parser, end_with
from vllm_edit.processes.load_model import load
from vllm_edit.serac.app import App
from vllm_edit.serac.generation import Generator

logger = logging.getLogger(__name__)


def main() -> int:
    """Serve until told to stop; status 1 when the model cannot be loaded."""
    parser = argument_parser("vllm_edit.serac.process")
    parser.add_argument("--fd", type=int, required=True, help="listening socket")
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s [serac] %(message)s")
    transformers_logging.disable_progress_bar()
    listening = socket.socket(fileno=args.fd)
    end_with(args.parent)
    try:
        generator = Generator(*load(args.model, args.device))
    except EditError as error:
        logger.error("%s", error.message)  # noqa: TRY400 - a traceback would add nothing
        return 1
    app = App(generator, args.model.name, args.threads)
    config = uvicorn.Config(
        app.asgi, log_config=None, access_log=False, lifespan="off", loop="asyncio", ws="none"
    )
    # uvicorn installs signal handlers only on the main thread, and SIGTERM must keep its default.
    server = threading.Thread(
        target=uvicorn.Server(config).run, kwargs={"sockets": [listening]}, daemon=True
    )
    server.start()
    server.join()
    return 1


if __name__ == "__main__":
    sys.exit(main())
