"""Who may change edits: who sends the admin key; without one, who is on this machine."""

from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from vllm_edit.domain.errors import Forbidden, Unauthorized
from vllm_edit.security.hashed_key import HashedKey

ADMIN_HEADER = "X-Edit-Admin-Key"
"""The request header that carries the admin key."""


@dataclass(frozen=True)
class Access:
    """``local`` tells that only this machine reaches the server."""

    key: HashedKey
    local: bool

    @property
    def open(self) -> bool:
        """Whether edits can be changed without a key."""
        return self.local and not self.key

    def check(self, given: bytes | None, origin: str | None) -> None:
        """Let a change pass, asked for with the key ``given`` and the header ``Origin``.

        Raises:
            Unauthorized: the server has an admin key, and this is not it.
            Forbidden: it has none and others reach it, or a web page of another place asks.
        """
        if self.key:
            if given is None or not self.key.matches(given):
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
            # Browsers let every page send requests to this machine, and name the page.
            raise Forbidden(
                f"A web page of {origin} may not change edits here; start the server with an "
                "admin key and let the page send it.",
                code="foreign_origin",
            )


def is_loopback(host: str | None) -> bool:
    """Whether a server that listens on ``host`` (None: everywhere) is reached from here only."""
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
