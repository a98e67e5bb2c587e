"""The run of all methods on a checkpoint, here the bundled one."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from vllm_edit import factworld
from vllm_edit.factworld import schemas
from vllm_edit.factworld.world import build_world


def written(folder: Path, schema: str) -> Path:
    """The world's edits in a schema, as a file."""
    records = schemas.SCHEMAS[schema](build_world(), random.Random(0), 60)
    path = folder / f"{schema}.json"
    path.write_text(json.dumps(records))
    return path


@pytest.mark.slow
def test_three_sets_become_one_page_and_a_second_run_has_nothing_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n".join(factworld.corpus()))
    output = tmp_path / "output"
    arguments = (
        "pretrained", factworld.checkpoint(), "--counterfact", written(tmp_path, "easyedit"),
        "--zsre", written(tmp_path, "zsre"), "--statistics-text", text, "--output", output,
        "--methods", "fact-in-prompt,rome", "--edits", 2, "--tokens", 6,
    )  # fmt: skip
    monkeypatch.setattr("sys.argv", ["benchmarks", *map(str, arguments)])
    main()
    assert "easyedit" in capsys.readouterr().err
    page = (output / "report.html").read_text()
    for name in ("CounterFact", "zsRE, the true answer", "zsRE, the false answer"):
        assert f"<h1>{name}</h1>" in page
    results: dict[str, Any] = {
        name: json.loads((output / name / "result.json").read_text())
        for name in ("easyedit", "zsre-true", "zsre-alternative")
    }
    for result in results.values():
        rows = {(row["method"], row["regime"]): row for row in result["rows"]}
        assert ("rome", "batch") in rows
        assert ("fact-in-prompt", "batch") not in rows
        assert rows["rome", "single"]["metrics"]["reliability/begins"]["mean"] > 0.0
        floor = rows["rome", "single"]["metrics"]["locality/first_word"]["floor"]
        assert floor == 1.0
    main()
    assert page == (output / "report.html").read_text()
