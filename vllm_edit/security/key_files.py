"""Files of names and their keys, read again when they change."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import yaml

from vllm_edit.domain.errors import Unavailable

logger = logging.getLogger(__name__)

T = TypeVar("T")

_State = tuple[int, int, int]


class Reread(Generic[T]):
    """What a file holds now, so that keys can change while a server runs. Thread-safe.

    ``read`` makes it of the file, and raises Unavailable if it cannot. At the start this is raised
    here too; later the value stays as it was, and the log says why.
    """

    def __init__(self, path: Path, read: Callable[[Path], T]) -> None:
        self._path = path
        self._read = read
        self._lock = threading.Lock()
        self._state = self._look()
        self._value = read(path)

    @property
    def value(self) -> T:
        """What the file held when it could last be read."""
        with self._lock:
            state = self._look()
            if state != self._state:
                self._state = state
                try:
                    self._value = self._read(self._path)
                    logger.info("%s has changed and was read again.", self._path)
                except Unavailable as error:
                    logger.warning("The keys stay as they were. %s", error.message)
            return self._value

    def _look(self) -> _State | None:
        """What differs when the file was written or replaced; None without a file."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


def read_mapping(path: Path) -> dict[str, Any]:
    """The YAML mapping of names in a file; raises Unavailable if it holds something else."""
    try:
        mapping = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise Unavailable(f"The keys cannot be read from {path}: {error}") from error
    if not isinstance(mapping, dict) or not all(isinstance(name, str) for name in mapping):
        raise Unavailable(f"{path} must hold a mapping of names to their keys.")
    return mapping
