"""What weight edits cost: `python -m benchmarks editing`."""

import argparse
import time
from typing import Any

import torch

from benchmarks import machine, models, results
from benchmarks.models import MeasuredModel
from benchmarks.peak_memory import peak
from weight_patchers import METHODS, Delta, Edit, Statistics
from weight_patchers.hyperparameters import find, override
from weight_patchers.memit.compute import adjusted_keys
from weight_patchers.model.layers import layers, projection
from weight_patchers.statistics.factor import factorize
from weight_patchers.values.contexts import sample_contexts

KEY_WIDTH, BATCH = 4096, 100


def add_parser(commands: Any) -> None:
    """Add `editing` to the command line."""
    parser = commands.add_parser("editing", help="time and memory of weight edits")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--edits", type=int, default=100, help="edits of the batching measurement")
    parser.add_argument("--many", type=int, default=1000, help="edits of one large batch")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; medians are reported")
    parser.add_argument(
        "--shape",
        choices=sorted(models.SHAPES),
        action="append",
        default=[],
        help="also a random-weight model of this shape, in bfloat16 on a GPU",
    )
    parser.add_argument("--shape-edits", type=int, default=100, help="edits on such a model")
    results.add_output(parser)
    parser.set_defaults(func=run)


def run(options: argparse.Namespace) -> None:
    """Measure, print, and write the result."""
    small = models.bundled(options.device)
    result: dict[str, Any] = {"machine": machine.describe(options.device)}
    result["batching"] = batching(small, options.edits, options.rounds)
    result["many"] = many(small, options.many)
    result["solve"] = solve(options.device, options.rounds)
    for shape in options.shape:
        dtype = torch.bfloat16 if options.device.startswith("cuda") else torch.float32
        subject = models.shaped(shape, options.device, dtype)
        result[shape] = shaped(subject, options.shape_edits, options.device)
        del subject
    results.write(result, options.output, f"editing-{options.device.partition(':')[0]}.json")


def batching(subject: MeasuredModel, count: int, rounds: int) -> dict[str, Any]:
    """MEMIT with many edits in a batch, with one edit per pass, and with one edit per call.

    The first two give the same delta. Each call gives a delta of its own, from the same base.
    """
    hparams = find(METHODS["memit"].hparams, "memit", subject.model.config)
    key_statistics = subject.statistics(hparams.layers)
    edits = models.edits(count)
    alone = override(hparams, {"pass_tokens": 1})
    seconds: dict[str, list[float]] = {"together": [], "one a pass": [], "one a call": []}
    for _ in range(rounds):
        one, taken = _timed(subject, "memit", edits, hparams, key_statistics)
        seconds["together"].append(taken)
        other, taken = _timed(subject, "memit", edits, alone, key_statistics)
        seconds["one a pass"].append(taken)
        calls = (_timed(subject, "memit", [edit], hparams, key_statistics) for edit in edits)
        seconds["one a call"].append(sum(taken for _, taken in calls))
    medians = {name: sorted(values)[len(values) // 2] for name, values in seconds.items()}
    return {
        "edits": count,
        "rounds": rounds,
        "seconds": seconds,
        "speed_up": {name: median / medians["together"] for name, median in medians.items()},
        "relative_difference": max(
            float((change.dense() - other.matrices[name].dense()).norm() / change.dense().norm())
            for name, change in one.matrices.items()
        ),
    }


def many(subject: MeasuredModel, count: int) -> dict[str, Any]:
    """One large batch with MEMIT and with AlphaEdit."""
    result: dict[str, Any] = {"edits": count}
    for name in ("memit", "alphaedit"):
        hparams = find(METHODS[name].hparams, name, subject.model.config)
        key_statistics = subject.statistics(hparams.layers)
        delta, taken = _timed(subject, name, models.edits(count), hparams, key_statistics)
        reports = delta.diagnostics["edits"]
        result[name] = {
            "seconds": taken,
            "greedy_after": sum(edit["greedy_after"] for edit in reports) / len(reports),
        }
    return result


def solve(device: str, rounds: int) -> dict[str, Any]:
    """The solve of the first batch, which factors the statistics, against later solves."""
    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(2 * KEY_WIDTH, KEY_WIDTH, generator=generator).to(device)
    moment = samples.T @ samples / len(samples)
    keys = torch.randn(KEY_WIDTH, BATCH, generator=generator).to(device).double()
    first, later = [], []
    for _ in range(rounds):
        start = _now(device)
        factor = factorize(moment)
        adjusted_keys(factor, keys, 15000.0)
        middle = _now(device)
        adjusted_keys(factor, keys, 15000.0)
        first.append(middle - start)
        later.append(_now(device) - middle)
    return {
        "key_width": KEY_WIDTH,
        "edits": BATCH,
        "first_seconds": first,
        "later_seconds": later,
        "ratio": sorted(first)[rounds // 2] / sorted(later)[rounds // 2],
    }


def shaped(subject: MeasuredModel, count: int, device: str) -> dict[str, Any]:
    """Seconds and memory on a larger model with random weights, whose answers are meaningless."""
    result: dict[str, Any] = {"model_bytes": subject.bytes, "dtype": str(subject.model.dtype)}
    for name, number in (("rome", 3), ("memit", count)):
        hparams = find(METHODS[name].hparams, name, subject.model.config)
        # No target is likely under random weights: every edit must take all its steps.
        hparams = override(hparams, {"stop_probability": 1.0})
        start = _now(device)
        width = projection(subject.model, hparams.layers[0]).d_in
        key_statistics = subject.statistics(hparams.layers, 2 * width)
        collecting = _now(device) - start
        start = _now(device)
        for layer in hparams.layers:
            key_statistics.factor(layer)
        factoring = _now(device) - start
        tokens = _Tokens(subject, hparams.layers[-1])
        with tokens, peak(device) as memory:
            _, taken = _timed(subject, name, models.edits(number), hparams, key_statistics)
        result[name] = {
            "edits": number,
            "seconds": taken,
            "seconds_per_edit": taken / number,
            "peak_bytes_over_model": memory.bytes,
            "peak_share_of_model": memory.bytes / subject.bytes,
            "statistics_tokens": key_statistics.count,
            "statistics_seconds": collecting,
            "factor_seconds": factoring,
            "rate_share": tokens.flops() / taken / _rate(device, subject.model.dtype),
        }
    return result


class _Tokens:
    """Counts the tokens of forward passes through the edited layer and those above."""

    def __init__(self, subject: MeasuredModel, layer: int) -> None:
        stack = list(layers(subject.model))
        self._last = stack[-1]
        self._parameters = sum(p.numel() for block in stack[layer:] for p in block.parameters())
        self._count = 0

    def __enter__(self) -> None:
        self._handle = self._last.register_forward_hook(self._add)

    def __exit__(self, *_: object) -> None:
        self._handle.remove()

    def _add(self, _module: object, args: tuple[torch.Tensor, ...], output: Any) -> None:
        first = output[0] if isinstance(output, tuple) else output
        self._count += first.shape[0] * first.shape[1]

    def flops(self) -> float:
        """Two per parameter and token forwards, and two backwards to the inputs."""
        return 4.0 * self._parameters * self._count


def _rate(device: str, dtype: torch.dtype) -> float:
    """Floating-point operations per second of a square matrix product, the best of five."""
    size = 8192 if device.startswith("cuda") else 2048
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = 0.0
    for _ in range(5):
        start = _now(device)
        _ = a @ b
        best = max(best, 2.0 * size**3 / (_now(device) - start))
    return best


def _timed(
    subject: MeasuredModel, name: str, edits: list[Edit], hparams: Any, key_statistics: Statistics
) -> tuple[Delta, float]:
    """A delta and its seconds, without those of contexts and of factoring the statistics."""
    contexts = sample_contexts(subject.model, subject.tokenizer, hparams)
    for layer in hparams.layers:
        key_statistics.factor(layer)
    device = str(subject.model.device)
    start = _now(device)
    delta = METHODS[name].compute(
        subject.model, subject.tokenizer, edits, hparams, key_statistics, contexts=contexts
    )
    return delta, _now(device) - start


def _now(device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter()
