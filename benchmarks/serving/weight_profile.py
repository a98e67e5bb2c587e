"""The time of the parts of one ROME edit of the bundled model."""

import cProfile
import pstats
import time
from collections.abc import Callable
from typing import Any

from benchmarks import models
from weight_patchers import METHODS
from weight_patchers.hyperparameters import find
from weight_patchers.values.contexts import sample_contexts

Part = tuple[str, float, str]
"""Name, milliseconds and description."""

_FUNCTIONS = (
    ("plan_workload", "contexts", "workload.py", "texts around the edit put together"),
    ("compute_z", "v*", "workload.py", "the value vector for the target is optimised"),
    ("_update", "solve", "rome/compute.py", "keys averaged and the rank-one update solved"),
    ("edit_reports", "report", "workload.py", "whether the edited copy answers with the target"),
    ("watch", "controls before", "controls.py", "control prompts read before the edit"),
    ("drift", "controls after", "controls.py", "control prompts read after it: drift"),
)


def weight_edit() -> list[Part]:
    """The parts of one edit, after another edit as warm-up."""
    subject = models.bundled("cpu")
    method = METHODS["rome"]
    hparams = find(method.hparams, "rome", subject.model.config)
    start = time.perf_counter()
    key_statistics = subject.statistics(hparams.layers)
    collected = time.perf_counter()
    for layer in hparams.layers:
        key_statistics.factor(layer)
    factored = time.perf_counter()
    contexts = sample_contexts(subject.model, subject.tokenizer, hparams)
    first, second = models.edits(2)

    def compute(edit: Any) -> None:
        method.compute(
            subject.model, subject.tokenizer, [edit], hparams, key_statistics, contexts=contexts
        )

    compute(first)
    parts = _by_function(lambda: compute(second))
    return [
        ("statistics", 1e3 * (collected - start), "keys of other text; once for a model"),
        ("factor", 1e3 * (factored - collected), "of the statistics; once for a server"),
        *parts,
    ]


def _by_function(run: Callable[[], None]) -> list[Part]:
    profiler = cProfile.Profile()
    start = time.perf_counter()
    profiler.runcall(run)
    whole = time.perf_counter() - start
    stats: Any = pstats.Stats(profiler)
    rows, rest = [], whole
    for function, part, file, about in _FUNCTIONS:
        taken = sum(
            times[3]
            for (path, _, name), times in stats.stats.items()
            if name == function and path.endswith(file)
        )
        rows.append((part, 1e3 * taken, about))
        rest -= taken
    return [*rows, ("rest", 1e3 * max(0.0, rest), "what is left of the computation")]
