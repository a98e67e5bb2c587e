"""`vllm-edit evaluate` on a real server: two methods on the same edits."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cases import Case, post
from vllm_edit.cli import main
from vllm_edit.evaluation.server_edits import SET
from vllm_edit.processes.server import ServerProcess

EDITS = 2

pytestmark = pytest.mark.engine


def run(*arguments: object) -> int:
    return main(["evaluate", *map(str, arguments)])


def mean(row: dict[str, Any], metric: str) -> float:
    score: float = row["metrics"][metric]["mean"]
    return score


def test_two_methods_are_judged_as_served_and_the_server_is_left_as_it_was(
    server: ServerProcess, http: httpx.Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The edits that a killed run left are rolled back.
    http.post("/v1/edit-sets", json={"name": SET}).raise_for_status()
    arguments = (
        "--url", server.url, "--edits", EDITS, "--counts", f"1,{EDITS}",
        "--regimes", "single,sequential", "--output", tmp_path,
    )  # fmt: skip
    assert run(*arguments) == 0, capsys.readouterr().err
    result = json.loads((tmp_path / "result.json").read_text())
    rows = {(r["method"], r["regime"], r["count"], r["moment"]): r for r in result["rows"]}
    assert len(rows) == 1 + 2 * (1 + 2 * 2)
    unedited = rows["unedited", "none", 0, "at the end"]
    assert mean(unedited, "reliability/generated") == 0.0
    assert mean(unedited, "locality/generated") == 1.0
    assert unedited["drift"] == 0.0
    for method in ("ike", "rome"):
        for key in (("single", 1), ("sequential", EDITS)):
            row = rows[method, *key, "at the end"]
            assert row["records"] == EDITS
            assert mean(row, "reliability/generated") == 1.0
            assert mean(row, "reliability/teacher_forced") == 1.0
            assert mean(row, "locality.other_subjects/teacher_forced") > 0.6
            assert row["failed"] == 0
        assert result["costs"][method]["preparation_seconds"] >= 0.0
    # A memory edit changes no unrelated prompt; a weight edit changes all of them a little.
    assert rows["ike", "single", 1, "at the end"]["drift"] == pytest.approx(0.0, abs=1e-6)
    assert rows["rome", "single", 1, "at the end"]["drift"] > 0.0
    assert "| rome | factworld |" in capsys.readouterr().out
    assert SET not in http.get("/v1/edit-sets").text

    # Repeated, the command has nothing left to do and sends the server no requests.
    arguments = tuple(str(a).replace(server.url, "http://127.0.0.1:9") for a in arguments)
    pieces = tmp_path / "pieces.jsonl"
    pieces.write_text(pieces.read_text().replace(server.url, "http://127.0.0.1:9"))
    assert run(*arguments) == 0
    again = json.loads((tmp_path / "result.json").read_text())
    assert again["rows"] == result["rows"]


def test_multi_hop_questions_are_decomposed_if_the_method_can(
    server: ServerProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edits = 6
    arguments = (
        "--url", server.url, "--data", "factworld:mquake", "--methods", "mello,ike",
        "--edits", edits, "--regimes", "batch", "--output", tmp_path,
    )  # fmt: skip
    assert run(*arguments) == 0, capsys.readouterr().err
    result = json.loads((tmp_path / "result.json").read_text())
    rows = {row["method"]: row for row in result["rows"]}
    assert mean(rows["mello"], "portability.multi_hop/generated") > 0.6
    assert mean(rows["ike"], "portability.multi_hop/generated") < 0.4
    # MeLLo answers several prompts, so the target has no likelihood.
    assert "portability.multi_hop/teacher_forced" not in rows["mello"]["metrics"]
    assert "portability.multi_hop/teacher_forced" in rows["ike"]["metrics"]


def test_a_server_with_edits_in_effect_is_refused(
    server: ServerProcess,
    http: httpx.Client,
    case: Case,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    post(http, case.edit("ike"))
    assert run("--url", server.url, "--methods", "ike", "--output", tmp_path) == 1
    assert "has 1 edits in effect" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--data", "zsre:x.json"), "names no data"),
        (("--data", "easyedit:/no/such.json"), "cannot be read"),
        (("--edits", "100000"), "records that can be edited"),
        (("--counts", "50"), "Counts are between 1 and"),
        (("--regimes", "double"), "no regime 'double'"),
        (("--url", "http://127.0.0.1:9"), "does not answer"),
    ],
)
def test_impossible_runs_are_refused_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], reason: str
) -> None:
    assert run(*arguments, "--output", tmp_path) == 1
    assert reason in capsys.readouterr().err
