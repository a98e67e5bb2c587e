"""Training and evaluation from pairs to files."""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from retriever.encoder import Encoder
from retriever.errors import InvalidTrainingDataError
from retriever.scope.classifier import Classifier, ScopeClassifier
from retriever.scope.files import Description, local, portable, save
from retriever.scope.network import CrossEncoder
from retriever.scope_training.conversations import conversations
from retriever.scope_training.evaluation import Outcome, evaluate, memory_of
from retriever.scope_training.examples import make_examples, reading_of
from retriever.scope_training.pair import Pair, Side, TrainingEdit, on_side
from retriever.scope_training.report import choose_threshold, report
from retriever.scope_training.trainer import Progress, Trainer, TrainingSettings
from retriever.settings import RetrieverSettings

VALIDATED_WITH = 1000
"""Size of the memory, in edits, when the threshold is chosen."""

Begin = Callable[[str, int], Callable[[], None]]
"""Begins a progress bar with a title and a number of steps; returns what moves it by one."""


@dataclass(frozen=True, slots=True)
class Run:
    """What training and evaluation have in common."""

    pairs: Sequence[Pair]
    encoder: Encoder
    fillers: Callable[[], Iterable[TrainingEdit]] = tuple
    """Edits of subjects that no pair is about, to fill the memory."""
    begin: Begin = lambda _title, _steps: lambda: None


def train(
    run: Run, base: str, settings: TrainingSettings, output: Path, progress: Progress
) -> dict[str, Any]:
    """Train on the training side, choose a threshold on the validation side, write both.

    An interrupted run resumes from the state in `output`/training. Returns the report.
    """
    start = time.monotonic()
    _check(run.pairs)
    examples = make_examples(on_side(run.pairs, "train"), run.encoder, settings.seed)
    torch.manual_seed(settings.seed)
    network = CrossEncoder(local(base), settings.rank)
    Trainer(network, examples, settings).train(progress, output / "training")
    training_report: dict[str, Any] = {
        "training": asdict(settings),
        "examples": len(examples),
        "seconds": round(time.monotonic() - start),
    }
    description = Description(
        portable(base), network.fingerprint, settings.rank, 0.5, report=training_report
    )
    save(network, description, output)
    count, outcomes = measure(run, ScopeClassifier(output), "validation", VALIDATED_WITH)
    threshold = choose_threshold(outcomes)
    training_report["validation"] = report(outcomes, threshold, count)
    chosen = Description(
        description.base, description.fingerprint, settings.rank, threshold, report=training_report
    )
    save(network, chosen, output)
    return training_report


def measure(
    run: Run,
    classifier: Classifier,
    side: Side,
    size: int,
    settings: RetrieverSettings | None = None,
) -> tuple[int, list[Outcome]]:
    """Outcomes of a side's pairs, and of conversations made of them, in a memory of `size` edits.

    If the side has fewer, edits of the other sides and then the run's fillers fill the memory. The
    first result is the memory's actual size. Pairs that ask backwards are left out.
    """
    pairs = [pair for pair in on_side(run.pairs, side) if not pair.asks_backwards]
    pairs += conversations(pairs, seed=0)
    others = [pair.edit for pair in run.pairs]
    edits, tested = memory_of(pairs, others, size, seed=0, fillers=run.fillers())
    step = run.begin(f"{side}, {len(edits)} edits", len(tested))
    settings = settings or RetrieverSettings()
    return len(edits), evaluate(edits, tested, run.encoder, classifier, settings, step)


def _check(pairs: Sequence[Pair]) -> None:
    for side in ("train", "validation"):
        if not any(pair.in_scope and reading_of(pair) for pair in on_side(pairs, side)):
            raise InvalidTrainingDataError(
                f"There are no pairs in scope for the {side} side, to which a share of the "
                "subjects goes; give data about some tens of subjects at least."
            )


def write(values: Any, path: Path) -> None:
    """Write a report as JSON; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
