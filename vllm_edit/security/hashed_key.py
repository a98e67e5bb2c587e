"""Keys that tell who may do what. Only their hashes are kept."""

import hashlib
import hmac
import re
from pathlib import Path
from typing import Self

from vllm_edit.domain.errors import Unavailable

_HASHED = re.compile(r"sha256:([0-9a-f]{64})")


class HashedKey:
    """What is left of a key: its SHA-256. Of no key ("") nothing is left, and that is false.

    ``text`` is the key, or ``sha256:`` and its hash in hexadecimal, as ``str`` gives it back.
    """

    __slots__ = ("_digest",)

    def __init__(self, text: str = "") -> None:
        if known := _HASHED.fullmatch(text):
            self._digest = bytes.fromhex(known[1])
        else:
            self._digest = hashlib.sha256(text.encode()).digest() if text else b""

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """The key in a file, as `read_key` reads it; raises Unavailable."""
        return cls(read_key(path))

    def matches(self, given: bytes) -> bool:
        """Whether ``given`` is the key, in a time that tells nothing about it."""
        digest = hashlib.sha256(given).digest()
        return bool(self) and hmac.compare_digest(digest, self._digest)

    def __bool__(self) -> bool:
        return bool(self._digest)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, HashedKey):
            return NotImplemented
        return hmac.compare_digest(self._digest, other._digest)

    def __hash__(self) -> int:
        return hash(self._digest)

    def __str__(self) -> str:
        return f"sha256:{self._digest.hex()}" if self else ""

    def __repr__(self) -> str:
        return "HashedKey(...)" if self else "''"


def read_key(path: Path) -> str:
    """The key in a file: its text without the white space around it.

    Raises:
        Unavailable: the file cannot be read, or holds no key.
    """
    try:
        key = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Unavailable(f"The key cannot be read from {path}: {error}") from error
    if not key:
        raise Unavailable(f"{path} holds no key: write one into it.")
    return key
