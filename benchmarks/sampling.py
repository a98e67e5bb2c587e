"""The effect of the sample size on key statistics: `python -m benchmarks sampling`.

Compares the bundled model's statistics of the default sample with those of a sample ten times
larger, which includes it. Per layer: the distance of the moments, and the cosine of ROME's
directions C^-1 k for keys of real edits. For both samples: the drift of other facts' answers.
"""

import argparse
from statistics import mean
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from benchmarks import machine, models, results
from benchmarks.models import MeasuredModel
from weight_patchers import METHODS, Edit, Statistics, statistics
from weight_patchers.hyperparameters import find
from weight_patchers.model.layers import depth, projection
from weight_patchers.values.contexts import sample_contexts
from weight_patchers.values.workload import keys_and_states, plan_workload

TIMES = 10


def add_parser(commands: Any) -> None:
    """Add `sampling` to the command line."""
    parser = commands.add_parser("sampling", help="default key statistics against larger ones")
    parser.add_argument("--edits", type=int, default=50, help="edits whose keys are compared")
    results.add_output(parser)
    parser.set_defaults(func=run)


def run(options: argparse.Namespace) -> None:
    """Measure, print, and write the result."""
    subject = models.bundled("cpu")
    layers = tuple(range(depth(subject.model)))
    tokens = statistics.sample_size(subject.model, layers)
    small, large = (subject.statistics(layers, n * tokens) for n in (1, TIMES))
    edits = models.edits(options.edits)
    result = {
        "machine": machine.describe("cpu"),
        "tokens": [small.count, large.count],
        "layers": {layer: compare(subject, layer, small, large, edits) for layer in layers},
        "edits": [effect(subject, sample, edits) for sample in (small, large)],
    }
    results.write(result, options.output, "sampling.json")


def compare(
    subject: MeasuredModel, layer: int, small: Statistics, large: Statistics, edits: list[Edit]
) -> dict[str, float]:
    """The samples' own error estimates, and the difference between the samples."""
    distance = (small.moment(layer) - large.moment(layer)).norm() / large.moment(layer).norm()
    keys = _keys(subject, layer, edits).T
    cosines = F.cosine_similarity(
        small.factor(layer).solve(keys), large.factor(layer).solve(keys), dim=0
    )
    return {
        "error": small.errors[layer],
        "error_large": large.errors[layer],
        "distance": float(distance),
        "cosine_mean": float(cosines.mean()),
        "cosine_least": float(cosines.min()),
    }


def effect(
    subject: MeasuredModel, key_statistics: Statistics, edits: list[Edit]
) -> dict[str, float]:
    """The success rate of single ROME edits, and the drift of the answers about other facts."""
    hparams = find(METHODS["rome"].hparams, "rome", subject.model.config)
    contexts = sample_contexts(subject.model, subject.tokenizer, hparams)
    deltas = [
        METHODS["rome"].compute(
            subject.model,
            subject.tokenizer,
            [edit],
            hparams,
            key_statistics,
            contexts=contexts,
            controls=[other.prompt for other in edits if other.subject != edit.subject],
        )
        for edit in edits
    ]
    return {
        "told": mean(delta.diagnostics["edits"][0]["greedy_after"] for delta in deltas),
        "drift": mean(delta.diagnostics["drift"]["mean"] for delta in deltas),
    }


def _keys(subject: MeasuredModel, layer: int, edits: list[Edit]) -> Tensor:
    """The edits' averaged keys [edits, d_in]."""
    hparams = find(METHODS["rome"].hparams, "rome", subject.model.config)
    contexts = sample_contexts(subject.model, subject.tokenizer, hparams)
    work = plan_workload(subject.model, subject.tokenizer, edits, contexts, hparams)
    target = projection(subject.model, layer)
    return keys_and_states(subject.model, {0: target}, {}, work.problems)[0][0]
