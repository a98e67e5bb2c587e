"""`vllm-edit evaluate --transformers`, and that its answers equal those of a server."""

import json
from pathlib import Path

import pytest

from tests.evaluation.test_evaluate import mean, run
from vllm_edit import factworld
from vllm_edit.evaluation.judging import questions
from vllm_edit.evaluation.local_model import LocalModel
from vllm_edit.evaluation.sample import Sample
from vllm_edit.evaluation.served_model import ServedModel
from vllm_edit.evaluation.server_client import ServerClient
from vllm_edit.processes.load_model import load
from vllm_edit.processes.server import ServerProcess

EDITS = 2


@pytest.mark.slow
def test_methods_are_judged_without_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VLLM_EDIT_STORE", str(tmp_path / "store"))
    arguments = (
        "--transformers", "--edits", EDITS, "--counts", f"1,{EDITS}", "--fluency",
        "--regimes", "batch,sequential", "--methods", "ike,memit",
        "--output", tmp_path / "run",
    )  # fmt: skip
    assert run(*arguments) == 0, capsys.readouterr().err
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["target"] == "checkpoint in Transformers on cpu"
    rows = {(r["method"], r["regime"], r["count"], r["moment"]): r for r in result["rows"]}
    assert len(rows) == 1 + 2 * (2 + 2 * 2)
    assert mean(rows["unedited", "none", 0, "at the end"], "reliability/generated") == 0.0
    for (method, _, _, moment), row in rows.items():
        if method != "unedited":
            assert mean(row, "reliability/generated") == 1.0
            assert mean(row, "reliability/teacher_forced") == 1.0
            assert row["failed"] == 0
            if moment == "at the end":
                assert row["fluency"] > 1.0
                assert (row["drift"] < 1e-9) == (method == "ike")
    assert result["costs"]["memit"]["peak_bytes"] > 0


def test_a_method_that_needs_a_server_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--transformers", "--methods", "mello", "--output", tmp_path) == 1
    assert "mello needs a server" in capsys.readouterr().err
    assert run("--transformers", "--url", "http://x", "--output", tmp_path) == 1
    assert "neither --url" in capsys.readouterr().err


@pytest.mark.engine
def test_a_server_and_transformers_give_the_same_answers(
    server: ServerProcess, sample: Sample
) -> None:
    local = LocalModel(*load(factworld.checkpoint(), "cpu"))
    all_questions = [question for record in sample.records for question in questions(record)]
    control = [probe.prompts[0] for probe in sample.control]
    with ServerClient(server.url) as connection:
        served = ServedModel(connection, "factworld@base")
        theirs, likely = served.answer(all_questions), served.top_logprobs(control)
    ours = local.answer(all_questions)
    for question, answer in theirs.items():
        assert answer.forced
        assert ours[question].generated == answer.generated
        forced = ours[question].forced
        assert forced
        assert (forced.target, forced.greedy) == (answer.forced.target, answer.forced.greedy)
        assert forced.nll == pytest.approx(answer.forced.nll, abs=1e-3)
    for mine, served_logprobs in zip(local.logprobs_of(control, likely), likely, strict=True):
        assert mine == pytest.approx(served_logprobs, abs=1e-3)
