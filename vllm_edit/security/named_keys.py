"""Keys with names, each for changing edits or for reading all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from vllm_edit.domain.errors import Unavailable
from vllm_edit.security.hashed_key import HashedKey
from vllm_edit.security.key_files import read_mapping

ADMINISTRATOR = "admin"
"""What the audit log calls the admin key; no other key can have the name."""


class Scope(StrEnum):
    """What a key is for: to change edits, or to see all of them and who changed them."""

    CHANGE = "change"
    READ = "read"


_FIELDS = frozenset({"key", "scope"})


@dataclass(frozen=True)
class NamedKey:
    """A key, and what the audit log calls whoever sends it."""

    name: str
    key: HashedKey
    scope: Scope = Scope.CHANGE


def read_named_keys(path: Path) -> Sequence[NamedKey]:
    """Read a YAML mapping of names to keys, or to ``{key: ..., scope: read}``.

    A key may be ``sha256:`` and its hash. Raises Unavailable for anything else, and where two
    names have one key.
    """
    keys = [_named(path, name, value) for name, value in read_mapping(path).items()]
    if len({named.key for named in keys}) < len(keys):
        raise Unavailable(f"Two names in {path} have the same key; give each its own.")
    return keys


def _named(path: Path, name: str, value: Any) -> NamedKey:
    fields = value if isinstance(value, dict) else {"key": value}
    key, scope = fields.get("key"), fields.get("scope", Scope.CHANGE)
    if (
        name != ADMINISTRATOR
        and isinstance(key, str)
        and key
        and scope in list(Scope)
        and fields.keys() <= _FIELDS
    ):
        return NamedKey(name, HashedKey(key), Scope(scope))
    raise Unavailable(
        f"{name!r} in {path} must be followed by a key, or by its key and scope: change or "
        f"read; and {ADMINISTRATOR} is the name of the admin key."
    )
