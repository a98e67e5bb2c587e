"""A real server whose edits are in PostgreSQL, killed and started anew on another machine."""

from pathlib import Path

import pytest

from tests.cases import answer, known_cases, post
from tests.crash.servers import ForkedServer, Zygote
from vllm_edit.store import Store


@pytest.mark.slow
def test_acknowledged_edits_survive_with_nothing_but_the_database(
    database: Store, zygote: Zygote, tmp_path: Path
) -> None:
    logs = [tmp_path / "first.log", tmp_path / "second.log"]
    caches = [tmp_path / "first", tmp_path / "second"]

    def started(number: int) -> ForkedServer:
        flags = [f"--edit-cache={caches[number]}"]
        return ForkedServer(zygote, database, logs[number], flags=flags)

    with started(0) as first:
        assert first.answers()
        known = known_cases(first.url, count=2)
        with first.client() as client:
            post(client, known[0].edit("ike"))
            post(client, known[1].edit("rome"))
    with started(1) as second, second.client() as client:
        assert second.answers()
        for case in known:
            assert answer(client, case.prompt) == case.target_new
    made, fetched = ({p.name: p.read_bytes() for p in (c / "deltas").iterdir()} for c in caches)
    assert len(made) == 1
    assert fetched == made
    assert "was computed in" in logs[0].read_text()
    assert "was computed in" not in logs[1].read_text()
    assert not any("secret-word" in log.read_text() for log in logs)
