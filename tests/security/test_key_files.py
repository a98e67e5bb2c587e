"""Files of keys: what they hold, and that they are read again when they change."""

import logging
from pathlib import Path

import pytest

from vllm_edit.domain.errors import Forbidden, Unauthorized, Unavailable
from vllm_edit.security.access import ADMIN_HEADER, Access
from vllm_edit.security.hashed_key import HashedKey
from vllm_edit.security.key_files import Reread
from vllm_edit.security.named_keys import read_named_keys
from vllm_edit.security.tenants import Tenants
from vllm_edit.security.visibility import viewer_of

ANN, BOARD, OTHER = b"ann's key", b"the board's key", b"another key"
NO_TENANTS = Tenants({})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.yaml"
    path.write_text(f"ann: {ANN.decode()}\nboard: {{key: {BOARD.decode()}, scope: read}}\n")
    return path


def access(file: Path, local: bool = False) -> Access:
    return Access(HashedKey("admin"), local, Reread(file, read_named_keys))


def is_administrator(access: Access, key: bytes) -> bool:
    headers = {ADMIN_HEADER: key.decode()}
    return viewer_of(headers, access, NO_TENANTS, manages_edits=True).administrator


def test_a_named_key_changes_or_reads(file: Path) -> None:
    guarded = access(file)
    for key, name in ((ANN, "ann"), (b"admin", "admin")):
        guarded.check(key, None)
        sent = guarded.sent(key)
        assert sent is not None
        assert sent.name == name
        assert is_administrator(guarded, key)
    with pytest.raises(Forbidden) as refused:
        guarded.check(BOARD, None)
    assert refused.value.code == "read_only_key"
    assert is_administrator(guarded, BOARD)
    assert not is_administrator(guarded, OTHER)
    with pytest.raises(Unauthorized):
        guarded.check(OTHER, None)
    assert guarded.sent(OTHER) is None


def test_the_admin_key_is_the_one_in_its_file_now(tmp_path: Path) -> None:
    path = tmp_path / "admin.key"
    path.write_text("first\n")
    guarded = Access(Reread(path, HashedKey.from_file), local=True)
    guarded.check(b"first", None)
    path.write_text("the second\n")
    guarded.check(b"the second", None)
    for empty in (lambda: path.write_text("\n"), path.unlink):
        empty()
        # A file without a key never opens a server that had one.
        guarded.check(b"the second", None)
        for wrong in (b"first", b"", None):
            with pytest.raises(Unauthorized):
                guarded.check(wrong, None)


def test_keys_alone_guard_a_server(file: Path) -> None:
    guarded = Access(HashedKey(), True, Reread(file, read_named_keys))
    assert not guarded.open
    with pytest.raises(Unauthorized):
        guarded.check(None, None)


def test_a_changed_file_is_read_again(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    guarded = access(file)
    file.write_text("ann: another key\n")
    guarded.check(OTHER, None)
    for key in (ANN, BOARD):
        with pytest.raises(Unauthorized):
            guarded.check(key, None)
    with caplog.at_level(logging.WARNING):
        file.write_text("ann: [no key]\n")
        guarded.check(OTHER, None)
        guarded.check(OTHER, None)
        file.unlink()
        guarded.check(OTHER, None)
    assert [str(file) in message for message in caplog.messages] == [True, True]
    file.write_text("bob: third\n")
    guarded.check(b"third", None)


def test_tenants_are_read_again(tmp_path: Path) -> None:
    file = tmp_path / "tenants.yaml"
    file.write_text("acme: one\n")
    tenants = Tenants.from_file(file)
    assert tenants.max_edits("acme", 7) == 7
    file.write_text(f"acme: {{key: {HashedKey('two')}, max_edits: 3}}\nglobex: three\n")
    assert tenants.of(b"two") == "acme"
    assert "globex" in tenants
    assert (tenants.max_edits("acme", 7), tenants.max_edits("globex", 7)) == (3, 7)
    with pytest.raises(Unauthorized):
        tenants.of(b"one")


@pytest.mark.parametrize(
    "text",
    [
        "- ann",
        "ann:",
        "1: key",
        "ann: ''",
        "ann: {scope: read}",
        "ann: {key: a, scope: write}",
        "ann: {key: a, more: b}",
        "ann: a\nbob: a",
        "admin: a",
        "ann: {key: [a]",
    ],
)
def test_bad_files_are_refused_at_the_start(tmp_path: Path, text: str) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text(text)
    with pytest.raises(Unavailable, match=str(file)):
        Reread(file, read_named_keys)


@pytest.mark.parametrize("text", ["acme: {key: a, max_edits: -1}", "acme: {key: a, max_edits: x}"])
def test_bad_tenants_are_refused_at_the_start(tmp_path: Path, text: str) -> None:
    file = tmp_path / "tenants.yaml"
    file.write_text(text)
    with pytest.raises(Unavailable, match="acme"):
        Tenants.from_file(file)
