"""Who may change edits: whoever sends the admin key or, if there is none, this machine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from vllm_edit.domain.errors import Forbidden, Unauthorized
from vllm_edit.security.hashed_key import HashedKey
from vllm_edit.security.key_files import Reread
from vllm_edit.security.named_keys import ADMINISTRATOR, NamedKey, Scope

ADMIN_HEADER = "X-Edit-Admin-Key"
"""The request header that carries the admin key."""


_PROXY_HEADERS = frozenset(
    {"forwarded", "via", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "true-client-ip",
     "cf-connecting-ip", "cdn-loop"}
)  # fmt: skip
_PROXY_PREFIXES = ("x-forwarded-", "x-original-forwarded-", "x-envoy-")


@dataclass(frozen=True)
class Access:
    """``key`` is the server's admin key, or its file.

    ``local`` says that only this machine reaches the server, and that nobody who does is a tenant.
    """

    key: HashedKey | Reread[HashedKey]
    local: bool
    named: Reread[Sequence[NamedKey]] | None = None
    """Further keys with names."""

    @property
    def admin_key(self) -> HashedKey:
        """The admin key as it is now."""
        return self.key.value if isinstance(self.key, Reread) else self.key

    @property
    def open(self) -> bool:
        """Whether edits can be changed without a key."""
        return self.local and not self._keys()

    def open_to(self, headers: Mapping[str, str]) -> bool:
        """Whether whoever sends these headers counts as the administrator without a key."""
        return self.open and not was_forwarded(headers)

    def check(self, key: bytes | None, origin: str | None, forwarded: bool = False) -> None:
        """Check a request that changes edits: the key it sends, and its header ``Origin``.

        ``forwarded`` says that it came through a proxy, so that anybody may have sent it.

        Raises:
            Unauthorized: the server has other keys.
            Forbidden: the key is for reading; or the server has no admin key, and other machines
                reach it, it has tenants, or the request comes through a proxy or from a web page
                of another host.
        """
        if self._keys():
            sent = self.sent(key)
            if sent is None:
                raise Unauthorized(
                    "Changing edits needs the admin key of this server: send it in "
                    f"{ADMIN_HEADER} or as Authorization: Bearer."
                )
            if sent.scope is not Scope.CHANGE:
                raise Forbidden(
                    f"The key {sent.name!r} is for reading; changing edits needs another.",
                    code="read_only_key",
                )
        elif not self.local:
            raise Forbidden(
                "Edits cannot be changed here: the server has no admin key, and it has tenants or "
                "listens beyond this machine. Start it with VLLM_EDIT_ADMIN_KEY or "
                "--edit-admin-key-file, or without tenants on --host 127.0.0.1.",
                code="admin_key_not_set",
            )
        elif forwarded:
            raise Forbidden(
                "Edits cannot be changed through a proxy while the server has no admin key: start "
                "it with VLLM_EDIT_ADMIN_KEY or --edit-admin-key-file.",
                code="forwarded_request",
            )
        elif origin is not None and not _is_local(origin):
            # A browser lets every page send requests to this machine, and names the page's host.
            raise Forbidden(
                f"A web page of {origin} may not change edits here; start the server with an "
                "admin key and let the page send it.",
                code="foreign_origin",
            )

    def sent(self, key: bytes | None) -> NamedKey | None:
        """Which of the server's keys a request sends; None for no key and for a wrong one."""
        if key is None:
            return None
        found = [named for named in self._keys() if named.key.matches(key)]
        return found[0] if found else None

    def _keys(self) -> list[NamedKey]:
        key = self.admin_key
        own = [NamedKey(ADMINISTRATOR, key)] if key else []
        return own + list(self.named.value if self.named else ())


def sent_admin_key(headers: Mapping[str, str]) -> bytes | None:
    """The admin key that a request sends: in its own header, else as a bearer token."""
    key = headers.get(ADMIN_HEADER)
    if not key:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        key = token.strip() if scheme.lower() == "bearer" else ""
    # Header values are bytes, which Starlette shows as Latin-1.
    return key.encode("latin-1") if key else None


def was_forwarded(headers: Mapping[str, str]) -> bool:
    """Whether a proxy says in the headers that it passed the request on."""
    names = [name.lower() for name in headers]
    return any(name in _PROXY_HEADERS or name.startswith(_PROXY_PREFIXES) for name in names)


def is_loopback(host: str | None) -> bool:
    """Whether only this machine reaches a server that listens on ``host`` (None: everywhere)."""
    if host == "localhost":
        return True
    try:
        return ip_address(host or "").is_loopback
    except ValueError:
        return False


def _is_local(origin: str) -> bool:
    try:
        return is_loopback(urlsplit(origin).hostname)
    except ValueError:
        return False
