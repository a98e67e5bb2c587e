"""Fine-tunes a causal language model to answer by the edits in front of a question."""

import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vllm_edit.serac.training.data import TrainingRow
from vllm_edit.serac.training.examples import Examples

Progress = Callable[[int, int, float], None]
"""Called with the number of finished steps, of all steps, and the running loss."""


@dataclass(frozen=True)
class Recipe:
    """The schedule: linear warm-up, then linear decay to zero."""

    epochs: float = 1.0
    batch: int = 32
    learning_rate: float = 1e-4
    warm_up: float = 0.05
    decay: float = 0.01
    seed: int = 0
    save_seconds: float = 60.0

    def steps(self, rows: int) -> int:
        return max(1, math.ceil(self.epochs * rows / self.batch))

    def factor(self, done: float) -> float:
        """The learning rate's factor after a share `done` of the steps.

        Unlike Transformers' linear schedule, it does not start at zero.
        """
        return min(1.0, (done + 1e-3) / self.warm_up, (1 - done) / (1 - self.warm_up))


class Training:
    """One run. With a file `state`, it saves its state there and resumes from a saved one.

    Rows and their order depend only on the seed and the step, so a resumed run sees the same rows
    as an uninterrupted one.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        rows: list[TrainingRow],
        recipe: Recipe,
        state: Path | None = None,
    ) -> None:
        self._model = model
        self._examples = Examples(tokenizer)
        self._rows = rows
        self._recipe = recipe
        self._state = state
        self._optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=recipe.learning_rate,
            betas=(0.9, 0.95),
            weight_decay=recipe.decay,
        )

    def run(self, progress: Progress) -> float:
        """Train to the end; returns the running loss."""
        total = self._recipe.steps(len(self._rows))
        step, mean_loss = self._resume()
        saved = time.monotonic()
        self._model.train()
        for rows in self._batches(step):
            loss = self._step(rows, step, total)
            mean_loss = loss if step == 0 else 0.95 * mean_loss + 0.05 * loss
            step += 1
            progress(step, total, mean_loss)
            if step >= total:
                break
            if time.monotonic() - saved > self._recipe.save_seconds:
                self._save(step, mean_loss)
                saved = time.monotonic()
        self._model.eval()
        if self._state is not None:
            self._state.unlink(missing_ok=True)
        return mean_loss

    def _step(self, rows: list[TrainingRow], step: int, total: int) -> float:
        rng = random.Random(f"{self._recipe.seed} {step}")  # noqa: S311 - seeded
        batch = self._examples.batch(rows, self._rows, rng)
        for group in self._optimizer.param_groups:
            group["lr"] = self._recipe.learning_rate * self._recipe.factor(step / total)
        inputs = {name: tensor.to(self._model.device) for name, tensor in batch.items()}
        loss: torch.Tensor = self._model(**inputs).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad()
        return loss.item()

    def _batches(self, first: int) -> Iterator[list[TrainingRow]]:
        """The rows of each step from `first` on, endlessly."""
        size = min(self._recipe.batch, len(self._rows))
        each = len(self._rows) // size
        epoch, skipped = divmod(first, each)
        while True:
            order = list(range(len(self._rows)))
            random.Random(f"{self._recipe.seed} epoch {epoch}").shuffle(order)  # noqa: S311
            for at in range(skipped, each):
                yield [self._rows[index] for index in order[at * size : (at + 1) * size]]
            epoch, skipped = epoch + 1, 0

    def _resume(self) -> tuple[int, float]:
        if self._state is None or not self._state.exists():
            return 0, 0.0
        saved: dict[str, Any] = torch.load(self._state, weights_only=True)
        if saved["recipe"] != asdict(self._recipe) or saved["rows"] != len(self._rows):
            return 0, 0.0
        self._model.load_state_dict(saved["model"])
        self._optimizer.load_state_dict(saved["optimizer"])
        return saved["step"], saved["loss"]

    def _save(self, step: int, loss: float) -> None:
        if self._state is None:
            return
        state = {
            "recipe": asdict(self._recipe),
            "rows": len(self._rows),
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "step": step,
            "loss": loss,
        }
        staged = self._state.with_suffix(".new")
        torch.save(state, staged)
        staged.replace(self._state)
