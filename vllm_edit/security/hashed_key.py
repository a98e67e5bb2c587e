"""Keys of the administrator and of tenants. Only their hashes are kept."""

import hashlib
import hmac
import re
from pathlib import Path
from typing import Self

from vllm_edit.domain.errors import Unavailable

_HASHED = re.compile(r"sha256:([0-9a-f]{64})")


class HashedKey:
    """The SHA-256 of a key. An empty ``text`` means that there is no key: false in a condition.

    ``text`` is the key itself, or ``sha256:`` and its hash in hexadecimal, which is what ``str``
    returns.
    """

    __slots__ = ("_digest",)

    def __init__(self, text: str = "") -> None:
        if hashed := _HASHED.fullmatch(text):
            self._digest = bytes.fromhex(hashed[1])
        else:
            self._digest = hashlib.sha256(text.encode()).digest() if text else b""

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """The key in a file, as `read_key` reads it; raises Unavailable."""
        return cls(read_key(path))

    def matches(self, key: bytes) -> bool:
        """Whether this is ``key``'s hash; takes the same time for every key."""
        digest = hashlib.sha256(key).digest()
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
    """The key in a file: its text without surrounding white space.

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
