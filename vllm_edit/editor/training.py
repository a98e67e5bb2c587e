"""A whole run that trains an editor: from a base to the editor's file and a report."""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vllm_edit.domain.errors import InvalidEdit
from vllm_edit.processes.load_model import load
from weight_patchers import METHODS, fingerprint
from weight_patchers.hyperparameters import find, find_training, override
from weight_patchers.trained import file
from weight_patchers.trained.editor import TrainedEditor
from weight_patchers.trained.training.outcome import Validation
from weight_patchers.trained.training.recipe import Recipe
from weight_patchers.trained.training.trainer import Training, TrainingData, Watch
from weight_patchers.values.workload import Progress


@dataclass(frozen=True)
class EditorPlan:
    """What to train. `hparams` and `recipe` replace single values of those for the model.

    `minutes` ends training early; the same plan, or one with more minutes, goes on from there.
    """

    method: str
    model: Path
    output: Path
    hparams: Mapping[str, Any]
    recipe: Mapping[str, Any]
    seed: int = 0
    minutes: float = math.inf
    device: str = "cpu"


@dataclass(frozen=True)
class TrainingReport:
    """The result of a run. `validation` is that of the editor as it was stored.

    `seconds` and `cpu_seconds` are those of this run, without what came before a resumption.
    """

    method: str
    base: str
    fingerprint: str
    data: str
    parameters: int
    hyperparameters: Mapping[str, Any]
    recipe: Mapping[str, Any]
    seed: int
    steps: int
    seconds: float
    cpu_seconds: float
    validation: Validation
    history: Sequence[Validation]


def train_editor(
    plan: EditorPlan,
    data: Callable[[int], TrainingData],
    name: str,
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> tuple[Path, TrainingReport]:
    """Train an editor, write its file and beside it the report; returns both.

    `data` gives the training data, called `name`, with so many validation edits. A file beside the
    editor's, with the ending .state, lets the same call go on with an interrupted run. Raises
    InvalidEdit for a method without a trained editor, Unavailable and PatcherError.
    """
    kind = editor_of(plan.method)
    identity = fingerprint(plan.model)
    model, tokenizer = load(plan.model, plan.device)
    hparams = override(find(kind.hparams_type, plan.method, model.config), plan.hparams)
    recipe = override(find_training(Recipe, plan.method, model.config), plan.recipe)
    editor = kind.untrained(hparams, model, plan.seed)
    plan.output.mkdir(parents=True, exist_ok=True)
    path = plan.output / file.file_name(plan.method, identity)
    state = path.with_suffix(".state")
    training = Training(
        model, tokenizer, editor, recipe, data(recipe.validation_edits), plan.seed, state
    )
    begun, computed = time.monotonic(), time.process_time()
    steps = training.run(progress, watch, plan.minutes * 60)
    seconds, computed = time.monotonic() - begun, time.process_time() - computed
    about = {"data": name, "recipe": asdict(recipe), "steps": steps}
    file.save(path, editor, identity, plan.seed, about)
    training.editor = file.load(path, kind, model, identity)
    report = TrainingReport(
        method=plan.method,
        base=plan.model.resolve().name,
        fingerprint=identity,
        data=name,
        parameters=sum(parameter.numel() for parameter in editor.parameters()),
        hyperparameters=asdict(hparams),
        recipe=asdict(recipe),
        seed=plan.seed,
        steps=steps,
        seconds=round(seconds, 1),
        cpu_seconds=round(computed, 1),
        validation=training.validate(steps),
        history=training.history,
    )
    path.with_suffix(".json").write_text(json.dumps(asdict(report), indent=2) + "\n")
    if steps >= recipe.steps:
        state.unlink(missing_ok=True)
    return path, report


def editor_of(method: str) -> type[TrainedEditor]:
    """The type of the method's editor; raises InvalidEdit for a method without one."""
    kind = METHODS[method].editor if method in METHODS else None
    if kind is None:
        trained = [name for name, one in METHODS.items() if one.editor is not None]
        raise InvalidEdit(f"{method} is not trained; {', '.join(trained)} are.")
    return kind
