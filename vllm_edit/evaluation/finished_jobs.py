"""The results of the finished jobs of a run, in a file, so that the run can be resumed."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vllm_edit.domain.errors import InvalidData
from vllm_edit.evaluation.plan import EvaluationPlan, Job, JobResult
from vllm_edit.evaluation.sample import Sample
from vllm_edit.evaluation.unedited import Unedited
from weight_patchers.json_lines import append_line, complete_lines


class FinishedJobs:
    """A file with a JSON line for the run and one for each finished job or cost.

    Opening it reads the lines of an earlier, interrupted run.

    Raises:
        InvalidData: the file belongs to another run.
    """

    def __init__(self, path: Path, plan: EvaluationPlan, sample: Sample, target: str) -> None:
        self._path = path
        self.results: list[JobResult] = []
        self.unedited: Unedited | None = None
        """The stored answers of the unedited model, for targets that always give the same."""
        self.costs: dict[str, dict[str, float | None]] = {}
        self._done: set[str] = set()
        head = {**plan.described(), "target": target, "records": _digest(sample)}
        # Converted by JSON, which has no tuples, because it is compared with the line in the file.
        self._head: Any = json.loads(json.dumps(head))
        lines = self._lines()
        if not lines:
            append_line(self._path, self._head)
        elif lines[0] != self._head:
            raise InvalidData(
                f"{path} holds the pieces of another run: name another output folder, or delete "
                "that file."
            )
        for line in lines[1:]:
            self._remember(line)

    def done(self, job: Job) -> bool:
        return job.key in self._done

    def add(self, job: Job, results: Sequence[JobResult]) -> None:
        """Store the results of a job."""
        line = {"job": job.key, "pieces": [asdict(result) for result in results]}
        append_line(self._path, line)
        self._remember(json.loads(json.dumps(line)))

    def add_costs(self, method: str, costs: Mapping[str, float | None]) -> None:
        """Store costs of a method. The largest value of each cost counts; None is ignored."""
        line = {"costs": method, "values": dict(costs)}
        append_line(self._path, line)
        self._remember(line)

    def add_unedited(self, unedited: Unedited) -> None:
        """Store the answers of the unedited model."""
        line = {"unedited": unedited.as_json()}
        append_line(self._path, line)
        self._remember(json.loads(json.dumps(line)))

    def _remember(self, line: Mapping[str, Any]) -> None:
        if "job" in line:
            self._done.add(line["job"])
            self.results += [_result(fields) for fields in line["pieces"]]
            return
        if "unedited" in line:
            self.unedited = Unedited.from_json(line["unedited"])
            return
        costs = self.costs.setdefault(line["costs"], {})
        for name, value in line["values"].items():
            if value is not None:
                costs[name] = max(value, costs.get(name) or 0.0)

    def _lines(self) -> list[Any]:
        try:
            return complete_lines(self._path)
        except ValueError as error:
            message = f"{self._path} holds no pieces of an evaluation: delete it."
            raise InvalidData(message) from error


def _result(fields: dict[str, Any]) -> JobResult:
    lists = {name: tuple(fields[name]) for name in ("seconds", "failures", "judged")}
    return JobResult(**{**fields, **lists})


def _digest(sample: Sample) -> str:
    """A hash of the records and their probes."""
    text = json.dumps([asdict(record) for record in sample.records], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
