"""A whole run: the jobs of every method. Each result is stored as soon as it exists."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from vllm_edit.evaluation.finished_jobs import FinishedJobs
from vllm_edit.evaluation.job_runner import Judge, asked_kinds, preparation, run
from vllm_edit.evaluation.memory_usage import MemoryWatch
from vllm_edit.evaluation.plan import SINGLE, EvaluationPlan, Job
from vllm_edit.evaluation.sample import Sample
from vllm_edit.evaluation.target import EditableModel, Target
from vllm_edit.evaluation.unedited import Unedited, ask_unedited

UNEDITED = Job("unedited", "none", 0, 0)


def job_count(plan: EvaluationPlan) -> int:
    """The number of jobs of a run, including that of the unedited model."""
    return 1 + sum(1 for method in plan.methods for _ in plan.jobs(method))


def evaluate(
    plan: EvaluationPlan,
    sample: Sample,
    target: Target,
    finished: FinishedJobs,
    on_job_done: Callable[[str], None],
) -> None:
    """Run all unfinished jobs. After an EditError it can be called again.

    `on_job_done` gets the method of each finished job.
    """
    for method in plan.methods:
        left = [job for job in plan.jobs(method) if not finished.done(job)]
        for _ in range(sum(1 for _ in plan.jobs(method)) - len(left)):
            on_job_done(method)
        if left:
            with target.open(method) as model, _costs(model, method, finished):
                _run_jobs(plan, sample, model, method, left, finished, on_job_done)


def _run_jobs(
    plan: EvaluationPlan,
    sample: Sample,
    model: EditableModel,
    method: str,
    left: list[Job],
    finished: FinishedJobs,
    on_job_done: Callable[[str], None],
) -> None:
    record_judge = Judge(model.model, sample, plan, _unedited(plan, sample, model, finished))
    if not finished.done(UNEDITED):
        finished.add(UNEDITED, [record_judge.unedited(sample.records)])
        on_job_done(UNEDITED.method)
    seconds = preparation(model.applier, sample.records[0])
    finished.add_costs(method, {"preparation_seconds": seconds})
    singles = [job for job in left if job.regime == SINGLE]
    model.applier.expect([job.of(sample.records)[0].rewrites for job in singles])
    for job in left:
        finished.add(job, run(job, model.applier, record_judge, sample.records))
        on_job_done(method)


def _unedited(
    plan: EvaluationPlan, sample: Sample, model: EditableModel, finished: FinishedJobs
) -> Unedited:
    """The unedited answers of this model, or the stored ones if they would be the same."""
    if model.steady and finished.unedited is not None:
        return finished.unedited
    unedited = ask_unedited(model.model, sample, asked_kinds(model.model, plan))
    if model.steady:
        finished.add_unedited(unedited)
    return unedited


@contextmanager
def _costs(model: EditableModel, method: str, finished: FinishedJobs) -> Iterator[None]:
    """Store the peak memory of the model's processes, if they are on this machine."""
    watch = None if model.pid is None else MemoryWatch(model.pid)
    try:
        with watch or nullcontext():
            yield
    finally:
        if watch is not None:
            costs: dict[str, Any] = {"ready_bytes": watch.ready, "peak_bytes": watch.peak}
            if watch.device_peak is not None:
                costs |= {"device_ready_bytes": watch.device_ready}
                costs |= {"device_peak_bytes": watch.device_peak}
            finished.add_costs(method, costs)
