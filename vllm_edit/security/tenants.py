"""Tenants, who own edit sets, and their keys."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from vllm_edit.domain.errors import Unauthorized, Unavailable
from vllm_edit.security.hashed_key import HashedKey
from vllm_edit.security.key_files import Reread, read_mapping

TENANT_HEADER = "X-Edit-Tenant-Key"
"""The request header that carries a tenant's key."""


@dataclass(frozen=True)
class Tenant:
    """A tenant's key, and the most edits in effect or on their way in their sets (0: no limit)."""

    key: HashedKey
    max_edits: int | None = None
    """None for what the server's setting says."""


class Tenants:
    """The tenants of a server: as given, or as a file holds them now."""

    def __init__(
        self, keys: Mapping[str, HashedKey], file: Reread[Mapping[str, Tenant]] | None = None
    ) -> None:
        self._given = {name: Tenant(key) for name, key in keys.items()}
        self._file = file

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Those in a file, as `read_tenants` reads it; raises Unavailable."""
        return cls({}, Reread(path, read_tenants))

    @property
    def _tenants(self) -> Mapping[str, Tenant]:
        return self._file.value if self._file else self._given

    def __contains__(self, name: str) -> bool:
        return name in self._tenants

    def of(self, key: bytes) -> str:
        """The tenant with that key; raises Unauthorized if there is none."""
        names = [name for name, tenant in self._tenants.items() if tenant.key.matches(key)]
        if not names:
            raise Unauthorized(
                f"No tenant of this server has the key in {TENANT_HEADER}; send the right one, or "
                "none to see what is everyone's.",
                code="unknown_tenant",
            )
        return names[0]

    def max_edits(self, name: str, default: int) -> int:
        """Most edits in a tenant's sets; ``default`` unless the file says another number."""
        tenant = self._tenants.get(name)
        return default if tenant is None or tenant.max_edits is None else tenant.max_edits


def read_tenants(path: Path) -> Mapping[str, Tenant]:
    """Read a YAML mapping of tenants to their keys, or to ``{key: ..., max_edits: ...}``.

    A key may be ``sha256:`` and its hash. Raises Unavailable for anything else, and where two
    tenants have one key.
    """
    tenants = {name: _tenant(path, name, value) for name, value in read_mapping(path).items()}
    if len({tenant.key for tenant in tenants.values()}) < len(tenants):
        raise Unavailable(f"Two tenants in {path} have the same key; give each its own.")
    return tenants


def _tenant(path: Path, name: str, value: Any) -> Tenant:
    fields = value if isinstance(value, dict) else {"key": value}
    key, most = fields.get("key"), fields.get("max_edits")
    counts = most is None or (type(most) is int and most >= 0)
    if not (isinstance(key, str) and key and counts and fields.keys() <= {"key", "max_edits"}):
        raise Unavailable(
            f"The tenant {name!r} in {path} must be followed by a key, or by its key and "
            "max_edits, a whole number."
        )
    return Tenant(HashedKey(key), most)


def sent_tenant_key(headers: Mapping[str, str]) -> bytes | None:
    """The tenant's key that a request sends, if it sends one."""
    key = headers.get(TENANT_HEADER)
    # Header values are bytes, which Starlette shows as Latin-1.
    return None if key is None else key.encode("latin-1")
