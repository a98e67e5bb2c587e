"""The admin key: where it is found, what is kept of it, and who is let in with it."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_edit.cli.shared_arguments import find_admin_key
from vllm_edit.domain.errors import Forbidden, Unauthorized, Unavailable
from vllm_edit.security.access import Access, is_loopback, was_forwarded
from vllm_edit.security.hashed_key import HashedKey
from vllm_edit.settings import Settings, keep_hash_only, variable

KEY = "correct horse"


@settings(deadline=None)
@given(st.text(min_size=1).filter(lambda text: not text.startswith("sha256:")), st.text())
def test_a_key_matches_itself_only(text: str, other: str) -> None:
    key = HashedKey(text)
    assert key.matches(text.encode())
    assert key.matches(other.encode()) == (text == other)
    assert not key.matches(str(key).encode())


def test_only_the_hash_is_kept_and_shown() -> None:
    key = HashedKey(KEY)
    assert HashedKey(str(key)) == key != HashedKey("another")
    assert str(key).startswith("sha256:")
    assert KEY not in f"{key}{key!r}{Settings(admin_key=key)}"
    assert str(key) not in repr(Settings(admin_key=key))


def test_no_key_is_false_and_matches_nothing() -> None:
    assert not HashedKey()
    assert HashedKey(str(HashedKey())) == HashedKey()
    assert not HashedKey().matches(b"")


def test_the_key_comes_from_its_setting_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    assert Settings.from_environment({}).find_admin_key() == HashedKey()
    for environment in (
        {variable("admin_key"): KEY},
        {variable("admin_key"): str(HashedKey(KEY))},
        {variable("admin_key_file"): str(file)},
    ):
        found = Settings.from_environment(environment).find_admin_key()
        assert Access(found, local=True).admin_key == HashedKey(KEY)
    with pytest.raises(Unavailable, match="not both"):
        Settings(admin_key=HashedKey(KEY), admin_key_file=str(file)).find_admin_key()


def test_only_the_hash_is_left_to_other_processes() -> None:
    hashed = {variable("admin_key"): str(HashedKey(KEY))}
    environment = {variable("admin_key"): KEY}
    for _ in range(2):
        keep_hash_only(environment)
        assert environment == hashed
    nothing: dict[str, str] = {}
    keep_hash_only(nothing)
    assert not Settings.from_environment(nothing).find_admin_key()


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff"])
def test_a_file_without_a_key_is_refused(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(Unavailable, match=str(file)):
        Settings(admin_key_file=str(file)).find_admin_key()


def test_a_client_finds_the_key_where_the_server_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(variable("admin_key"), raising=False)
    monkeypatch.delenv(variable("admin_key_file"), raising=False)
    assert find_admin_key(None) == ""
    file = tmp_path / "key"
    file.write_text("of the file")
    monkeypatch.setenv(variable("admin_key_file"), str(file))
    assert find_admin_key(None) == "of the file"
    monkeypatch.setenv(variable("admin_key"), KEY)
    assert find_admin_key(None) == KEY
    assert find_admin_key(file) == "of the file"


@pytest.mark.parametrize("local", [True, False])
def test_with_a_key_only_that_key_opens(local: bool) -> None:
    access = Access(HashedKey(KEY), local)
    assert not access.open
    access.check(KEY.encode(), "https://anywhere.example")
    for given_key in (None, b"", b"wrong", KEY.upper().encode()):
        with pytest.raises(Unauthorized):
            access.check(given_key, None)


def test_without_a_key_only_a_local_server_is_open() -> None:
    assert Access(HashedKey(), local=True).open
    Access(HashedKey(), local=True).check(None, None)
    Access(HashedKey(), local=True).check(b"sent all the same", None)
    closed = Access(HashedKey(), local=False)
    assert not closed.open
    for given_key in (None, b"", b"any"):
        with pytest.raises(Forbidden, match="--edit-admin-key-file") as caught:
            closed.check(given_key, None)
        assert caught.value.code == "admin_key_not_set"


@pytest.mark.parametrize(
    ("origin", "welcome"),
    [
        ("http://localhost:8000", True),
        ("http://127.0.0.1:8000", True),
        ("http://[::1]:8000", True),
        ("https://evil.example", False),
        ("http://127.0.0.1.evil.example", False),
        ("http://localhost.evil.example", False),
        ("http://[::1", False),
        ("null", False),
        ("", False),
    ],
)
def test_a_page_of_another_place_changes_nothing_on_an_open_server(
    origin: str, welcome: bool
) -> None:
    access = Access(HashedKey(), local=True)
    if welcome:
        access.check(None, origin)
        return
    with pytest.raises(Forbidden) as caught:
        access.check(None, origin)
    assert caught.value.code == "foreign_origin"


@pytest.mark.parametrize(
    "name",
    ["Forwarded", "X-Forwarded-For", "x-forwarded-host", "X-Forwarded-Whatever", "X-Real-IP", "Via",
     "CF-Connecting-IP"],
)  # fmt: skip
def test_whoever_comes_through_a_proxy_is_not_on_this_machine(name: str) -> None:
    access = Access(HashedKey(), local=True)
    headers = {"accept": "*/*", name: ""}
    assert was_forwarded(headers)
    assert not access.open_to(headers)
    with pytest.raises(Forbidden) as refused:
        access.check(None, None, forwarded=True)
    assert refused.value.code == "forwarded_request"
    Access(HashedKey(KEY), local=True).check(KEY.encode(), None, forwarded=True)
    assert access.open_to({"accept": "*/*", "x-forward": "no proxy's"})


def test_loopback_is_told_from_other_addresses() -> None:
    for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost"):
        assert is_loopback(host)
    for host in (None, "", "0.0.0.0", "::", "10.0.0.1", "example.org", "localhost.example"):  # noqa: S104
        assert not is_loopback(host)
