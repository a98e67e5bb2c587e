"""The finished pieces of a run, in a file beside its output, so that it can be gone on with."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vllm_edit.domain.errors import InvalidData
from vllm_edit.evaluation.plan import EvaluationPlan, Job, JobResult
from vllm_edit.evaluation.sample import Sample


class FinishedJobs:
    """One JSON line for the run and one for each finished job; the latest costs count.

    Opening it finds what is there already.

    Raises:
        InvalidData: the file is of another run.
    """

    def __init__(self, path: Path, plan: EvaluationPlan, sample: Sample, target: str) -> None:
        self._path = path
        self.pieces: list[JobResult] = []
        self.costs: dict[str, dict[str, float | None]] = {}
        self._done: set[str] = set()
        head = {**plan.described(), "target": target, "records": _digest(sample)}
        # JSON knows no tuples, and what is read must equal what was written.
        self._head: Any = json.loads(json.dumps(head))
        lines = self._lines()
        if not lines:
            self._append(self._head)
        elif lines[0] != self._head:
            raise InvalidData(
                f"{path} holds the pieces of another run: name another output folder, or delete "
                "that file."
            )
        for line in lines[1:]:
            self._take(line)

    def done(self, job: Job) -> bool:
        return job.key in self._done

    def add(self, job: Job, pieces: Sequence[JobResult]) -> None:
        """Keep what a job found."""
        line = {"job": job.key, "pieces": [asdict(piece) for piece in pieces]}
        self._append(line)
        self._take(json.loads(json.dumps(line)))

    def add_costs(self, method: str, costs: Mapping[str, float | None]) -> None:
        """Keep what a method cost beside its edits; only what is known replaces what was."""
        line = {"costs": method, "values": dict(costs)}
        self._append(line)
        self._take(line)

    def _take(self, line: Mapping[str, Any]) -> None:
        if "job" in line:
            self._done.add(line["job"])
            self.pieces += [_piece(found) for found in line["pieces"]]
            return
        known = self.costs.setdefault(line["costs"], {})
        for name, value in line["values"].items():
            if value is not None:
                known[name] = max(value, known.get(name) or 0.0)

    def _lines(self) -> list[Any]:
        """What was written whole: a killed run may leave a part of its last line."""
        if not self._path.exists():
            return []
        text = self._path.read_text(encoding="utf-8")
        whole, _, cut = text.rpartition("\n")
        if cut:
            self._path.write_text(whole + "\n" if whole else "", encoding="utf-8")
        try:
            return [json.loads(line) for line in whole.splitlines()]
        except ValueError as error:
            message = f"{self._path} holds no pieces of an evaluation: delete it."
            raise InvalidData(message) from error

    def _append(self, line: Mapping[str, Any]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _piece(found: dict[str, Any]) -> JobResult:
    lists = {name: tuple(found[name]) for name in ("seconds", "failures", "judged")}
    return JobResult(**{**found, **lists})


def _digest(sample: Sample) -> str:
    """The same for the same records with the same probes."""
    text = json.dumps([asdict(record) for record in sample.records], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
