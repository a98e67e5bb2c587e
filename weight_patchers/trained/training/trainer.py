"""The training loop of all trained editors."""

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from weight_patchers.errors import ComputationFailed
from weight_patchers.model import hooks
from weight_patchers.model.layers import projection
from weight_patchers.trained.changes import Changes
from weight_patchers.trained.compute import make_changes
from weight_patchers.trained.condition import conditions
from weight_patchers.trained.editor import TrainedEditor
from weight_patchers.trained.gradients import read_gradients
from weight_patchers.trained.training.examples import (
    Draw,
    QuestionBuilder,
    Questions,
    TrainingEdit,
    without_each_other,
)
from weight_patchers.trained.training.objective import objective_of
from weight_patchers.trained.training.outcome import Validation, outcome_of
from weight_patchers.trained.training.recipe import Recipe
from weight_patchers.values.contexts import plain_contexts
from weight_patchers.values.problem import Problem, build_problem
from weight_patchers.values.workload import Progress

Watch = Callable[[Validation], None]
"""Called with each validation."""

_VALIDATION_BATCH = 20


@dataclass(frozen=True)
class TrainingData:
    """What to train on, and other edits to validate with."""

    draw: Draw
    validation: Sequence[TrainingEdit]


@dataclass
class Training:
    """One run. With a file `state`, it keeps its state there and goes on from what it finds.

    The edits of a step depend on the seed and the step alone, so a resumed run gives the same
    parameters as an uninterrupted one. The editor ends with the parameters of the validation with
    the lowest loss. The base is not trained, and left as it was.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    editor: TrainedEditor
    recipe: Recipe
    data: TrainingData
    seed: int = 0
    state: Path | None = None
    save_seconds: float = 60.0
    history: list[Validation] = field(default_factory=list)
    _best: dict[str, torch.Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._targets = {
            layer: projection(self.model, layer) for layer in self.editor.hparams.layers
        }
        self._objective = objective_of(self.recipe)
        self._optimizer = _optimizer(self.editor, self.recipe)
        self._rates = [group["lr"] for group in self._optimizer.param_groups]
        hparams = self.editor.hparams
        self._contexts = plain_contexts(self.tokenizer, chat=hparams.chat, end=hparams.end)

    def run(
        self,
        progress: Progress | None = None,
        watch: Watch | None = None,
        seconds: float = math.inf,
    ) -> int:
        """Train to the end, or for that many seconds, one step at least; returns the steps made.

        Raises ComputationFailed when training diverges, and InvalidEdit for an unusable edit.
        """
        begun = saved = time.monotonic()
        with self._frozen():
            step = self._resume()
            while step < self.recipe.steps and not self._is_stale(step):
                self._step(step)
                step += 1
                if step % self.recipe.validate_every == 0 or step == self.recipe.steps:
                    self._validate(step, watch)
                if progress is not None:
                    progress(step, self.recipe.steps)
                if time.monotonic() - begun > seconds:
                    self._save(step)
                    break
                if time.monotonic() - saved > self.save_seconds:
                    self._save(step)
                    saved = time.monotonic()
            if not self.history or self.history[-1].step != step:
                self._validate(step, watch)
        self.editor.load_state_dict(self._best)
        return step

    def validate(self, step: int) -> Validation:
        """What the editor, as it is now, does with the validation edits."""
        edits = self.data.validation
        totals: list[tuple[float, ...]] = []
        with self._frozen(), torch.no_grad():
            for start in range(0, len(edits), _VALIDATION_BATCH):
                chunk = edits[start : start + _VALIDATION_BATCH]
                rng = random.Random(f"validation {self.seed} {start}")  # noqa: S311 - seeded
                questions = self._questions(chunk, rng)
                with self._evaluating():
                    changes = self._made(chunk)
                outcome = outcome_of(self.model, self._targets, changes, questions)
                totals.append(
                    (
                        float(outcome.nll),
                        float(outcome.kl),
                        *_shares(questions, outcome.right),
                        len(chunk),
                    )
                )
        count = sum(total[-1] for total in totals)
        nll, kl, told, reworded, kept = (
            sum(total[i] * total[-1] for total in totals) / count for i in range(5)
        )
        loss = float(self._objective.loss(torch.tensor(nll), torch.tensor(kl)))
        return Validation(step, loss, nll, kl, told, reworded, kept)

    def _step(self, step: int) -> None:
        rng = random.Random(f"training {self.seed} {step}")  # noqa: S311 - seeded
        edits = [self.data.draw(rng) for _ in range(self.recipe.batch)]
        problem = self._problem(edits)
        gradients = read_gradients(self.model, self._targets, problem)
        self.editor.observe(gradients)
        together = self.recipe.together
        made = self.editor.changes(gradients, self._condition(edits))
        questions = self._questions(without_each_other(edits, together), rng)
        outcome = outcome_of(
            self.model,
            self._targets,
            {layer: factors.grouped(together) for layer, factors in made.items()},
            replace(questions, owners=questions.owners // together),
            self.recipe.smoothing,
        )
        loss = self._objective.loss(outcome.nll, outcome.kl)
        if not math.isfinite(float(loss.detach())):
            raise ComputationFailed("training diverged: lower its rate")
        self._optimizer.zero_grad()
        loss.backward()
        if self.recipe.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.editor.parameters(), self.recipe.clip)
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * self.recipe.factor(step)
        self._optimizer.step()
        self._objective.after_step(float(outcome.kl.detach()))

    def _made(self, edits: Sequence[TrainingEdit]) -> Changes:
        condition = self._condition(edits)
        return make_changes(
            self.model, self.editor, self._targets, self._problem(edits), condition
        )[0]

    def _problem(self, edits: Sequence[TrainingEdit]) -> Problem:
        groups = [[edit.edit] for edit in edits]
        return build_problem(
            self.tokenizer, groups, self._contexts, [[]] * len(groups), self.model.device
        )

    def _condition(self, edits: Sequence[TrainingEdit]) -> Any:
        if not self.editor.conditioned:
            return None
        return conditions(self.model, self.tokenizer, [edit.edit for edit in edits])

    def _questions(self, edits: Sequence[TrainingEdit], rng: random.Random) -> Questions:
        recipe = self.recipe
        builder = QuestionBuilder(self.tokenizer, recipe.rephrasings, recipe.kept, recipe.end)
        return builder.build(edits, rng, self.model.device)

    def _validate(self, step: int, watch: Watch | None) -> None:
        now = self.validate(step)
        if watch is not None:
            watch(now)
        if not self._best or now.loss <= min(one.loss for one in self.history):
            self._best = {name: part.clone() for name, part in self.editor.state_dict().items()}
        self.history.append(now)
        self._objective.after_validation(now.told)

    def _is_stale(self, step: int) -> bool:
        if self.recipe.patience is None or not self.history:
            return False
        best = min(self.history, key=lambda one: one.loss)
        return step - best.step >= self.recipe.patience

    @contextmanager
    def _frozen(self) -> Iterator[None]:
        with hooks.frozen(self.model):
            yield

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        training = self.editor.training
        self.editor.eval()
        try:
            yield
        finally:
            self.editor.train(training)

    def _identity(self) -> dict[str, Any]:
        """What a state must agree with to be resumed."""
        return {
            "method": self.editor.method,
            "hparams": asdict(self.editor.hparams),
            "recipe": asdict(self.recipe),
            "seed": self.seed,
        }

    def _save(self, step: int) -> None:
        if self.state is None:
            return
        staged = self.state.with_suffix(".new")
        content = {
            "identity": self._identity(),
            "step": step,
            "editor": self.editor.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "objective": self._objective.state(),
            "history": [asdict(one) for one in self.history],
            "best": self._best,
        }
        torch.save(content, staged)
        staged.replace(self.state)

    def _resume(self) -> int:
        if self.state is None or not self.state.exists():
            return 0
        saved: dict[str, Any] = torch.load(self.state, weights_only=True)
        if saved["identity"] != self._identity():
            return 0
        self.editor.load_state_dict(saved["editor"])
        self._optimizer.load_state_dict(saved["optimizer"])
        self._objective.resume(saved["objective"])
        self.history[:] = [Validation(**one) for one in saved["history"]]
        self._best = saved["best"]
        return int(saved["step"])


def _optimizer(editor: TrainedEditor, recipe: Recipe) -> torch.optim.Optimizer:
    groups = editor.parameter_groups(recipe.rate)
    if recipe.optimizer == "rmsprop":
        return torch.optim.RMSprop(groups, centered=True)
    return torch.optim.Adam(groups)


def _shares(questions: Questions, right: torch.Tensor) -> tuple[float, float, float]:
    """The shares of right rows: the edits' own prompts, their rephrasings, what is kept."""
    kinds = torch.zeros(len(right), dtype=torch.int64, device=right.device)
    kinds[questions.rows[questions.kept]] = 2
    kinds[questions.rows[~questions.kept & ~questions.own]] = 1
    told, reworded, kept = (
        float(right[kinds == kind].float().mean()) if bool((kinds == kind).any()) else 1.0
        for kind in range(3)
    )
    return told, reworded, kept
