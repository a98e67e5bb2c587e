"""Tenants, who own edit sets, and their keys."""

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import yaml

from vllm_edit.domain.errors import Unauthorized, Unavailable
from vllm_edit.security.hashed_key import HashedKey

TENANT_HEADER = "X-Edit-Tenant-Key"
"""The request header that carries a tenant's key."""


class Tenants:
    """The tenants of a server and their keys."""

    def __init__(self, keys: Mapping[str, HashedKey]) -> None:
        self._keys = dict(keys)

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read a YAML mapping of tenants to their keys, or to ``sha256:`` and their hashes.

        Raises Unavailable for anything else, and where two tenants have one key.
        """
        try:
            keys = yaml.safe_load(path.read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise Unavailable(f"The tenants' keys cannot be read from {path}: {error}") from error
        if not isinstance(keys, dict) or not all(
            isinstance(name, str) and isinstance(key, str) and key for name, key in keys.items()
        ):
            raise Unavailable(f"{path} must hold a mapping of tenants to their keys.")
        hashed = {name: HashedKey(key) for name, key in keys.items()}
        if len(set(hashed.values())) < len(hashed):
            raise Unavailable(f"Two tenants in {path} have the same key; give each its own.")
        return cls(hashed)

    def __contains__(self, name: str) -> bool:
        return name in self._keys

    def of(self, key: bytes) -> str:
        """The tenant with that key; raises Unauthorized if there is none."""
        names = [name for name, hashed in self._keys.items() if hashed.matches(key)]
        if not names:
            raise Unauthorized(
                f"No tenant of this server has the key in {TENANT_HEADER}; send the right one, or "
                "none to see what is everyone's.",
                code="unknown_tenant",
            )
        return names[0]


def sent_tenant_key(headers: Mapping[str, str]) -> bytes | None:
    """The tenant's key that a request sends, if it sends one."""
    key = headers.get(TENANT_HEADER)
    # Header values are bytes, which Starlette shows as Latin-1.
    return None if key is None else key.encode("latin-1")
