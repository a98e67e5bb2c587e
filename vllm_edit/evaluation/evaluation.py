"""A whole run: every method's jobs, kept as they are finished, and what came of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from vllm_edit.evaluation.asking import Asker
from vllm_edit.evaluation.connection import Connection
from vllm_edit.evaluation.editing import Editing, require_clean, served_model
from vllm_edit.evaluation.hosting import Target
from vllm_edit.evaluation.journal import Journal
from vllm_edit.evaluation.memory import MemoryWatch
from vllm_edit.evaluation.plan import Job, Plan
from vllm_edit.evaluation.running import Examiner, preparation, run, unedited
from vllm_edit.evaluation.sample import Sample

UNEDITED = Job("unedited", "none", 0, 0)

Step = Callable[[str], None]
"""Is told the method whenever a job is finished."""


def job_count(plan: Plan) -> int:
    """How many jobs a run has, the unedited model's among them."""
    return 1 + sum(1 for method in plan.methods for _ in plan.jobs(method))


def evaluate(
    plan: Plan, sample: Sample, target: Target, journal: Journal, admin_key: str, step: Step
) -> None:
    """Do what is not in the journal yet; raises EditError, and can be called again then."""
    for method in plan.methods:
        left = [job for job in plan.jobs(method) if not journal.done(job)]
        for _ in range(sum(1 for _ in plan.jobs(method)) - len(left)):
            step(method)
        if left:
            with _costs(target, method, journal) as url, Connection(url, admin_key) as connection:
                _method(plan, sample, connection, method, left, journal, step)


def _method(
    plan: Plan,
    sample: Sample,
    connection: Connection,
    method: str,
    left: list[Job],
    journal: Journal,
    step: Step,
) -> None:
    require_clean(connection)
    asker = Asker(connection, served_model(connection))
    examiner = Examiner(asker, sample, plan)
    if not journal.done(UNEDITED):
        journal.add(UNEDITED, [unedited(examiner, sample.records)])
        step(UNEDITED.method)
    editing = Editing(connection, method)
    journal.add_costs(method, {"preparation_seconds": preparation(editing, sample.records[0])})
    for job in left:
        journal.add(job, run(job, editing, examiner, sample.records))
        step(method)


@contextmanager
def _costs(target: Target, method: str, journal: Journal) -> Iterator[str]:
    """A server's address; what its processes hold at most is kept, if it is started here."""
    with target.host() as host:
        watch = None if host.pid is None else MemoryWatch(host.pid)
        try:
            with watch or nullcontext():
                yield host.url
        finally:
            if watch is not None:
                held: dict[str, Any] = {"ready_bytes": watch.ready, "peak_bytes": watch.peak}
                journal.add_costs(method, held)
