"""Users, for whom an application vouches: feedback for one user is nobody else's."""

import hashlib
import hmac
from collections.abc import Mapping
from pathlib import Path

from vllm_edit.domain.errors import Unauthorized
from vllm_edit.security.hashed_key import read_key

USER_HEADER = "X-Edit-User-Key"
"""The request header that carries the key of the user whom the body names."""


class Users:
    """Knows the key of every user by one ``secret``; without one nobody can be known."""

    def __init__(self, secret: str = "") -> None:
        self._secret = secret.encode()

    @classmethod
    def from_file(cls, path: Path) -> "Users":
        """With the secret in a file; raises Unavailable if there is none."""
        return cls(read_key(path))

    def __bool__(self) -> bool:
        """Whether there is a secret."""
        return bool(self._secret)

    def key_of(self, user: str) -> str:
        """The key of a user: the HMAC-SHA256 of the name under the secret, in hexadecimal."""
        return hmac.new(self._secret, user.encode(), hashlib.sha256).hexdigest()

    def are_proven(self, user: str, headers: Mapping[str, str]) -> bool:
        """Whether the request sends the user's key; raises Unauthorized for a wrong one."""
        key = headers.get(USER_HEADER)
        if key is None or not self:
            return False
        # Header values are bytes, which Starlette shows as Latin-1.
        if not hmac.compare_digest(key.encode("latin-1"), self.key_of(user).encode()):
            raise Unauthorized(
                f"{USER_HEADER} is not the key of the user whom the request names: it is the "
                "HMAC-SHA256 of that name under the secret in --edit-user-key-file.",
                code="wrong_user_key",
            )
        return True
