"""A whole run: every method's jobs, kept as they are finished, and what came of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from vllm_edit.evaluation.finished_jobs import FinishedJobs
from vllm_edit.evaluation.job_runner import Judge, preparation, run, unedited
from vllm_edit.evaluation.memory_usage import MemoryWatch
from vllm_edit.evaluation.plan import EvaluationPlan, Job
from vllm_edit.evaluation.sample import Sample
from vllm_edit.evaluation.target import EditableModel, Target

UNEDITED = Job("unedited", "none", 0, 0)

Step = Callable[[str], None]
"""Is told the method whenever a job is finished."""


def job_count(plan: EvaluationPlan) -> int:
    """How many jobs a run has, the unedited model's among them."""
    return 1 + sum(1 for method in plan.methods for _ in plan.jobs(method))


def evaluate(
    plan: EvaluationPlan, sample: Sample, target: Target, journal: FinishedJobs, step: Step
) -> None:
    """Do what is not in the journal yet; raises EditError, and can be called again then."""
    for method in plan.methods:
        left = [job for job in plan.jobs(method) if not journal.done(job)]
        for _ in range(sum(1 for _ in plan.jobs(method)) - len(left)):
            step(method)
        if left:
            with target.site(method) as site, _costs(site, method, journal):
                _method(plan, sample, site, method, left, journal, step)


def _method(
    plan: EvaluationPlan,
    sample: Sample,
    site: EditableModel,
    method: str,
    left: list[Job],
    journal: FinishedJobs,
    step: Step,
) -> None:
    examiner = Judge(site.model, sample, plan)
    if not journal.done(UNEDITED):
        journal.add(UNEDITED, [unedited(examiner, sample.records)])
        step(UNEDITED.method)
    preparing = preparation(site.editing, sample.records[0])
    journal.add_costs(method, {"preparation_seconds": preparing})
    for job in left:
        journal.add(job, run(job, site.editing, examiner, sample.records))
        step(method)


@contextmanager
def _costs(site: EditableModel, method: str, journal: FinishedJobs) -> Iterator[None]:
    """What the site's processes hold at most is kept, where they can be watched."""
    watch = None if site.pid is None else MemoryWatch(site.pid)
    try:
        with watch or nullcontext():
            yield
    finally:
        if watch is not None:
            held: dict[str, Any] = {"ready_bytes": watch.ready, "peak_bytes": watch.peak}
            if watch.device_peak is not None:
                held |= {"device_ready_bytes": watch.device_ready}
                held |= {"device_peak_bytes": watch.device_peak}
            journal.add_costs(method, held)
