"""Tenants: who sees which edit sets."""

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import yaml

from vllm_edit.domain.edit_set import EditSet
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
            told = yaml.safe_load(path.read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise Unavailable(f"The tenants' keys cannot be read from {path}: {error}") from error
        if not isinstance(told, dict) or not all(
            isinstance(name, str) and isinstance(key, str) and key for name, key in told.items()
        ):
            raise Unavailable(f"{path} must hold a mapping of tenants to their keys.")
        keys = {name: HashedKey(key) for name, key in told.items()}
        if len(set(keys.values())) < len(keys):
            raise Unavailable(f"Two tenants in {path} have the same key; give each its own.")
        return cls(keys)

    def __contains__(self, name: str) -> bool:
        return name in self._keys

    def of(self, key: bytes | None) -> str | None:
        """The tenant with that key, None without one; raises Unauthorized for an unknown key."""
        if key is None:
            return None
        found = [name for name, known in self._keys.items() if known.matches(key)]
        if not found:
            raise Unauthorized(
                f"No tenant of this server has the key in {TENANT_HEADER}; send the right one, or "
                "none to see what is everyone's.",
                code="unknown_tenant",
            )
        return found[0]


def is_visible(edit_set: EditSet, tenant: str | None) -> bool:
    """Whether requests of the tenant, or of none, see the set."""
    return edit_set.owner is None or edit_set.owner == tenant
