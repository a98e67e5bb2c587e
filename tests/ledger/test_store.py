"""How a store is named, and what of the name is shown."""

import argparse
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from vllm_edit.domain.errors import StoreError
from vllm_edit.ledger import Ledger, database_of
from vllm_edit.ledger.store_database import LEDGER_FILE
from vllm_edit.settings import Settings, add_flags, flags_to_environment
from vllm_edit.store import Store

URL = "postgresql://user:secret-word@host:5432/edits?sslmode=require"


@pytest.mark.parametrize(
    ("store", "shown"),
    [
        ("folder/of edits", "folder/of edits"),
        (URL, "postgresql://user@host:5432/edits"),
        ("postgresql+psycopg://host/edits", "postgresql+psycopg://host/edits"),
        ("postgres://user:secret-@word@host/edits", "postgres://user@host/edits"),
        ("postgresql://user:secret/word?x@host/edits", "postgresql://user@host/edits"),
        ("postgresql:///edits?host=/run/x&password=secret", "postgresql:///edits"),
    ],
)
def test_a_name_is_shown_without_its_secrets(store: str, shown: str) -> None:
    assert Store(store).shown == shown
    assert repr({"store": Store(store)}) == repr({"store": shown})
    assert str(Store(store)) == store


def test_nobody_else_can_read_a_store_in_a_folder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    old.mkdir(mode=0o755)
    with closing(sqlite3.connect(old / LEDGER_FILE)) as made_before:
        made_before.execute("PRAGMA journal_mode=WAL")
    (old / LEDGER_FILE).chmod(0o664)
    for folder in (new, old):
        caplog.clear()
        with Ledger.open(str(folder)) as ledger:
            assert ledger.try_to_lead("address")
            files = list(folder.iterdir())
            assert len(files) >= 3
            assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
        assert ("chmod 700" in caplog.text) == (folder == old)
    assert stat.S_IMODE(new.stat().st_mode) == 0o700


def test_only_databases_are_shared() -> None:
    assert Store(URL).shared
    assert Store("postgres://host/x").shared
    assert not Store("/a/folder").shared
    assert not Store("postgresql").shared


def test_what_is_neither_folder_nor_database_is_refused() -> None:
    with pytest.raises(StoreError, match="neither a folder nor a PostgreSQL database"):
        database_of(Store("mysql://host/x"))


def test_a_flag_of_a_database_stays_whole_and_unseen() -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    arguments = parser.parse_args(["--edit-store", URL, "--edit-cache=cache"])
    assert "secret" not in repr(arguments)
    settings = Settings.from_environment(flags_to_environment(arguments))
    assert settings.store == URL
    assert settings.folder == Path("cache")
    assert "secret" not in repr(settings)
    assert Settings(store=Store("folder")).folder == Path("folder")
