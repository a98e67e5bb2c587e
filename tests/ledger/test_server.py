"""A real server whose edits are in PostgreSQL, killed and started anew on another machine."""

from pathlib import Path

import httpx
import pytest

from tests.cases import answer, known_cases, post
from vllm_edit.launch import ServerProcess
from vllm_edit.store import Store


@pytest.mark.slow
def test_acknowledged_edits_survive_with_nothing_but_the_database(
    database: Store, tmp_path: Path
) -> None:
    logs = [tmp_path / "first.log", tmp_path / "second.log"]
    caches = [tmp_path / "first", tmp_path / "second"]
    first, second = (
        ServerProcess([f"--edit-store={database}", f"--edit-cache={cache}"], log)
        for cache, log in zip(caches, logs, strict=True)
    )
    first.start()
    try:
        known = known_cases(first.url, count=2)
        with httpx.Client(base_url=first.url, timeout=180.0) as client:
            post(client, known[0].edit("ike"))
            post(client, known[1].edit("rome"))
    finally:
        first.kill()
    with second, httpx.Client(base_url=second.url, timeout=180.0) as client:
        for case in known:
            assert answer(client, case.prompt) == case.target_new
    made, fetched = ({p.name: p.read_bytes() for p in (c / "deltas").iterdir()} for c in caches)
    assert len(made) == 1
    assert fetched == made
    assert "was computed in" in logs[0].read_text()
    assert "was computed in" not in logs[1].read_text()
    assert not any("secret-word" in log.read_text() for log in logs)
