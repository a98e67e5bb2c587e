"""Whose feedback a request may ask for."""

import hashlib
import hmac
from pathlib import Path

import pytest

from vllm_edit.domain.errors import Unauthorized, Unavailable
from vllm_edit.security.users import USER_HEADER, Users

USERS = Users("a secret")


def test_a_key_proves_its_user_only() -> None:
    key = hmac.new(b"a secret", "änn".encode(), hashlib.sha256).hexdigest()
    assert USERS.key_of("änn") == key
    assert USERS.are_proven("änn", {USER_HEADER: key})
    assert not USERS.are_proven("änn", {})
    for wrong in (USERS.key_of("ben"), key[:-1], "", "é"):
        with pytest.raises(Unauthorized) as refused:
            USERS.are_proven("änn", {USER_HEADER: wrong})
        assert refused.value.code == "wrong_user_key"


def test_without_a_secret_nobody_is_proven() -> None:
    assert not Users()
    assert not Users().are_proven("ann", {USER_HEADER: Users().key_of("ann")})


def test_the_secret_is_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("a secret\n")
    assert Users.from_file(file).key_of("ann") == USERS.key_of("ann")
    file.write_text("\n")
    with pytest.raises(Unavailable):
        Users.from_file(file)
