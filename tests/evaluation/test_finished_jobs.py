"""An interrupted run resumes where it stopped."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.evaluation.conftest import OpenFinishedJobs, piece
from vllm_edit.domain.errors import InvalidData
from vllm_edit.evaluation.plan import END, EvaluationPlan, Job
from vllm_edit.evaluation.sample import Sample

JOB = Job("ike", "single", 1, 0)


def test_finished_jobs_are_loaded_again(open_journal: OpenFinishedJobs, sample: Sample) -> None:
    first = open_journal()
    assert not first.done(JOB)
    first.add(JOB, [piece(JOB, sample, 1, END, 1.0)])
    again = open_journal()
    assert again.done(JOB)
    assert not again.done(replace(JOB, index=1))
    assert again.results == first.results == [piece(JOB, sample, 1, END, 1.0)]


def test_a_job_with_an_incomplete_line_runs_again(
    open_journal: OpenFinishedJobs, sample: Sample, tmp_path: Path
) -> None:
    open_journal().add(JOB, [piece(JOB, sample, 1, END, 1.0)])
    path = tmp_path / "run" / "pieces.jsonl"
    path.write_text(path.read_text()[:-10])
    again = open_journal()
    assert not again.done(JOB)
    again.add(JOB, [piece(JOB, sample, 1, END, 1.0)])
    assert open_journal().done(JOB)


def test_costs_are_the_largest_values(open_journal: OpenFinishedJobs) -> None:
    journal = open_journal()
    journal.add_costs("ike", {"preparation_seconds": 2.0})
    journal.add_costs("ike", {"preparation_seconds": 0.5, "peak_bytes": None})
    assert open_journal().costs == {"ike": {"preparation_seconds": 2.0}} == journal.costs


def test_another_run_s_pieces_are_refused(
    open_journal: OpenFinishedJobs, plan: EvaluationPlan
) -> None:
    open_journal()
    with pytest.raises(InvalidData, match="another run"):
        open_journal(plan=replace(plan, seed=1))
    with pytest.raises(InvalidData, match="another run"):
        open_journal(target="http://localhost:1")


def test_a_file_of_something_else_is_refused(
    open_journal: OpenFinishedJobs, tmp_path: Path
) -> None:
    path = tmp_path / "run" / "pieces.jsonl"
    path.parent.mkdir()
    path.write_text("not JSON\n")
    with pytest.raises(InvalidData, match="delete it"):
        open_journal()
