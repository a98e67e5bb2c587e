"""Who may change edits: whoever sends the admin key or, if there is none, this machine."""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from vllm_edit.domain.errors import Forbidden, Unauthorized
from vllm_edit.security.hashed_key import HashedKey

ADMIN_HEADER = "X-Edit-Admin-Key"
"""The request header that carries the admin key."""

ADMINISTRATOR = "admin"
"""The name of the admin key in the audit log."""


@dataclass(frozen=True)
class Access:
    """``key`` is the server's admin key; ``local`` says that only this machine reaches it."""

    key: HashedKey
    local: bool

    @property
    def open(self) -> bool:
        """Whether edits can be changed without a key."""
        return self.local and not self.key

    def check(self, key: bytes | None, origin: str | None) -> None:
        """Check a request that changes edits: the key it sends, and its header ``Origin``.

        Raises:
            Unauthorized: the server has another admin key.
            Forbidden: the server has no admin key, and other machines reach it or the request
                comes from a web page of another host.
        """
        if self.key:
            if key is None or not self.key.matches(key):
                raise Unauthorized(
                    "Changing edits needs the admin key of this server: send it in "
                    f"{ADMIN_HEADER} or as Authorization: Bearer."
                )
        elif not self.local:
            raise Forbidden(
                "Edits cannot be changed here: the server has no admin key and listens beyond "
                "this machine. Start it with VLLM_EDIT_ADMIN_KEY or --edit-admin-key-file, or "
                "with --host 127.0.0.1.",
                code="admin_key_not_set",
            )
        elif origin is not None and not _is_local(origin):
            # A browser lets every page send requests to this machine, and names the page's host.
            raise Forbidden(
                f"A web page of {origin} may not change edits here; start the server with an "
                "admin key and let the page send it.",
                code="foreign_origin",
            )

    def name_of(self, key: bytes | None) -> str:
        """What the audit log calls whoever sends a key; empty for nobody that is known."""
        return ADMINISTRATOR if key is not None and self.key.matches(key) else ""


def sent_admin_key(headers: Mapping[str, str]) -> bytes | None:
    """The admin key that a request sends: in its own header, else as a bearer token."""
    key = headers.get(ADMIN_HEADER)
    if not key:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        key = token.strip() if scheme.lower() == "bearer" else ""
    # Header values are bytes, which Starlette shows as Latin-1.
    return key.encode("latin-1") if key else None


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
