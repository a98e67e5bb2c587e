"""A small result of a run with every regime."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vllm_edit.evaluation.evaluate import UNEDITED
from vllm_edit.evaluation.finished_jobs import FinishedJobs
from vllm_edit.evaluation.plan import (
    AFTER,
    BATCH,
    END,
    SEQUENTIAL,
    SINGLE,
    EvaluationPlan,
    Job,
    JobResult,
)
from vllm_edit.evaluation.sample import Sample, draw
from vllm_edit.evaluation.summary import summarize

OpenFinishedJobs = Callable[..., FinishedJobs]


@pytest.fixture(scope="session")
def plan() -> EvaluationPlan:
    return EvaluationPlan(
        source="factworld",
        methods=("ike", "rome"),
        regimes=(SINGLE, BATCH, SEQUENTIAL),
        counts=(1, 2),
        edits=2,
        seed=0,
    )


@pytest.fixture(scope="session")
def sample(plan: EvaluationPlan) -> Sample:
    return draw(plan.source, plan.edits, plan.seed)


@pytest.fixture
def open_journal(tmp_path: Path, plan: EvaluationPlan, sample: Sample) -> OpenFinishedJobs:
    """Open the journal of the run, or of another plan or target."""

    def opened(plan: EvaluationPlan = plan, target: str = "factworld") -> FinishedJobs:
        return FinishedJobs(tmp_path / "run" / "pieces.jsonl", plan, sample, target)

    return opened


def piece(job: Job, sample: Sample, count: int, moment: str, *values: float) -> JobResult:
    """A result; each value is the score of one record in all metrics."""
    names = ("reliability", "generalization", "locality", "portability", "portability.alias",
             "locality.other_subjects")  # fmt: skip
    ways = ("generated", "teacher_forced", "begins", "first_word")
    judged = [
        {
            "case": record.case,
            "generated": f"said by {job.method} <&>",
            "scores": {f"{name}/{way}": value for name in names for way in ways},
        }
        for record, value in zip(sample.records, values, strict=False)
    ]
    seconds = () if job == UNEDITED else (0.25, 0.75)
    return JobResult(
        job.method, job.regime, count, job.index, moment, seconds, (), tuple(judged), 0.5
    )


@pytest.fixture(scope="session")
def result(
    tmp_path_factory: pytest.TempPathFactory, plan: EvaluationPlan, sample: Sample
) -> dict[str, Any]:
    """The same for both methods: single edits succeed, and half of two edits together."""
    folder = tmp_path_factory.mktemp("result")
    journal = FinishedJobs(folder / "pieces.jsonl", plan, sample, "factworld")
    journal.add(UNEDITED, [piece(UNEDITED, sample, 0, END, 0.0, 0.0)])
    for method in plan.methods:
        for job in plan.jobs(method):
            moments = (AFTER, END) if job.regime == SEQUENTIAL else (END,)
            values = (1.0,) if job.count == 1 else (1.0, 0.0)
            pieces = [piece(job, sample, job.count, moment, *values) for moment in moments]
            journal.add(job, pieces)
        journal.add_costs(method, {"preparation_seconds": 1.5, "peak_bytes": 2.0**31})
    return summarize(plan, sample, "factworld", journal)
