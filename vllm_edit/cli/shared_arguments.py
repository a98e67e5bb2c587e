"""Arguments that several commands take."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from vllm_edit import factworld
from vllm_edit.security.hashed_key import read_key

_MODEL = "a folder or a name in the hub's cache (default: the bundled model)"
_KEY, _KEY_FILE = "VLLM_EDIT_ADMIN_KEY", "VLLM_EDIT_ADMIN_KEY_FILE"


def add_model(parser: argparse.ArgumentParser) -> None:
    """MODEL, to be resolved by `vllm_edit.engine.checkpoint.resolve`."""
    parser.add_argument(
        "model", nargs="?", metavar="MODEL", default=str(factworld.checkpoint()), help=_MODEL
    )


def add_model_flag(parser: argparse.ArgumentParser, purpose: str) -> None:
    """--model, for a command whose positional arguments are something else."""
    parser.add_argument("--model", default=str(factworld.checkpoint()), help=f"{purpose}, {_MODEL}")


def add_device(parser: argparse.ArgumentParser) -> None:
    """--device, for `vllm_edit.processes.load_model.load`."""
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s"
    )


def integer_list(example: str) -> Callable[[str], tuple[int, ...]]:
    """The type of an argument such as 1,10,100; `example` goes into the error message."""

    def parse(text: str) -> tuple[int, ...]:
        try:
            return tuple(int(part) for part in text.split(","))
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is no list such as {example}") from error

    return parse


def add_admin_key(parser: argparse.ArgumentParser) -> None:
    """--admin-key-file, for `find_admin_key`."""
    parser.add_argument(
        "--admin-key-file",
        type=Path,
        metavar="FILE",
        help=f"file of the server's admin key (default: {_KEY}, or the file {_KEY_FILE})",
    )


def find_admin_key(file: Path | None) -> str:
    """The key to send to a server, "" for none; raises Unavailable if the file holds none."""
    if file is not None:
        return read_key(file)
    if key := os.environ.get(_KEY):
        return key
    path = os.environ.get(_KEY_FILE)
    return read_key(Path(path)) if path else ""
