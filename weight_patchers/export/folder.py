"""A folder that is written whole or not at all."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from weight_patchers.errors import CannotExport


@contextmanager
def whole(output: Path) -> Iterator[Path]:
    """A new folder beside `output` that takes its name when the `with` block succeeds.

    What was written has reached the disk by then. When the block raises, nothing of it is left.
    Raises CannotExport when `output` exists and is not an empty folder.
    """
    output = output.resolve()
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise CannotExport(f"{output} exists and is not an empty folder: name another one")
    output.parent.mkdir(parents=True, exist_ok=True)
    folder = output.with_name(f".{output.name}.{secrets.token_hex(4)}.tmp")
    folder.mkdir()
    try:
        yield folder
        for path in (*folder.rglob("*"), folder):
            _sync(path)
        folder.replace(output)
    except BaseException:
        shutil.rmtree(folder)
        raise
    _sync(output.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
