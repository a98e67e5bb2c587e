"""Arguments that several commands take."""

import argparse
import os
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
    """The same as --model, where other things are positional."""
    parser.add_argument("--model", default=str(factworld.checkpoint()), help=f"{purpose}, {_MODEL}")


def add_device(parser: argparse.ArgumentParser) -> None:
    """--device, to be given to `vllm_edit.processes.load_model.load`."""
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")


def add_admin_key(parser: argparse.ArgumentParser) -> None:
    """--admin-key-file, to be given to `find_admin_key`."""
    parser.add_argument(
        "--admin-key-file",
        type=Path,
        metavar="FILE",
        help=f"file of the server's admin key (default: {_KEY}, or the file {_KEY_FILE})",
    )


def find_admin_key(file: Path | None) -> str:
    """The key to send to a server, "" for none; raises Unavailable if its file has none."""
    if file is not None:
        return read_key(file)
    if key := os.environ.get(_KEY):
        return key
    path = os.environ.get(_KEY_FILE)
    return read_key(Path(path)) if path else ""
