"""Trains the bundled model: `python -m vllm_edit.factworld.train`.

One schedule from scratch. Each step trains two skills:

- Recall of facts without context. Later layers can read a fact only at the subject's last token,
  so the MLPs of the early layers learn to store it there. Small edits during training keep a
  subject's relations apart (`perturbation`).
- Use of facts in the prompt (IKE, MeLLo and chat), with guided attention (`model.GUIDANCE`).

`TrainingBatch` describes the restrictions. They apply in training only.
"""

import argparse
import itertools
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from tqdm import tqdm

from vllm_edit.factworld import checkpoint
from vllm_edit.factworld.export import write_checkpoint
from vllm_edit.factworld.lessons import Lessons
from vllm_edit.factworld.model import ModelShape
from vllm_edit.factworld.recipe import TrainingRecipe
from vllm_edit.factworld.tokenizer import train_tokenizer
from vllm_edit.factworld.trainer import Trainer
from vllm_edit.factworld.world import build_world


@dataclass
class Clock:
    """Computes the share of training that is done, by steps or by time, whichever is larger."""

    recipe: TrainingRecipe
    minutes: float
    earlier: float = 0.0
    start: float = field(default_factory=time.monotonic)

    @property
    def spent(self) -> float:
        """Seconds of training, including those before a resumption."""
        return self.earlier + time.monotonic() - self.start

    def done(self, step: int) -> float:
        return min(1.0, max(step / self.recipe.steps, self.spent / (60 * self.minutes)))


def train(
    recipe: TrainingRecipe,
    output: Path,
    state: Path,
    *,
    minutes: float = 120.0,
    save_every: float = 300.0,
    resume: bool = False,
    device: str = "cpu",
) -> None:
    """Train from scratch, or resume from the last save, and write the checkpoint to `output`.

    Ends after the recipe's steps, or after `minutes` with a shortened schedule. Writes `state`,
    from which `resume` continues, every `save_every` seconds and at the end.
    """
    torch.manual_seed(recipe.seed)
    world = build_world()
    tokenizer = train_tokenizer(world)
    trainer = Trainer(recipe, ModelShape(tokenizer.get_vocab_size()), device)
    clock, first = Clock(recipe, minutes), 0
    if resume:
        saved = torch.load(state, weights_only=True)
        trainer.load(saved["trainer"])
        clock.earlier, first = saved["spent"], saved["step"]
    lessons = Lessons(world, tokenizer, replace(recipe, seed=recipe.seed + first))
    last_save, done, mean_loss = clock.spent, clock.done(first), 0.0
    upcoming = lessons.batches(first, done)
    with tqdm(total=100.0, desc="factworld", unit="%", mininterval=5.0) as progress:
        for step in itertools.count(first):
            running = trainer.submit(upcoming)
            upcoming = lessons.batches(step + 1, done)
            loss = average([future.result() for future in running])
            trainer.update(recipe.rate(step, done))
            mean_loss = loss if step == first else 0.95 * mean_loss + 0.05 * loss
            done = clock.done(step + 1)
            progress.set_postfix(step=step, loss=f"{mean_loss:.3f}")
            progress.update(100 * done - progress.n)
            if done == 1 or clock.spent - last_save > save_every:
                last_save = clock.spent
                write_checkpoint(output, trainer.model.state_dict(), trainer.model.shape, tokenizer)
                save = {"trainer": trainer.state(), "spent": clock.spent, "step": step + 1}
                state.parent.mkdir(parents=True, exist_ok=True)
                torch.save(save, state)
            if done == 1:
                return


def average(losses: list[tuple[float, float]]) -> float:
    """The weighted mean of (sum of losses, sum of weights) pairs."""
    return sum(loss for loss, _ in losses) / sum(weight for _, weight in losses)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=checkpoint())
    parser.add_argument("--state", type=Path, default=Path("build/factworld.state"))
    parser.add_argument("--steps", type=int, default=TrainingRecipe.steps)
    parser.add_argument("--minutes", type=float, default=120.0, help="end by then at the latest")
    parser.add_argument("--save-every", type=float, default=300.0, help="seconds")
    parser.add_argument("--resume", action="store_true", help="go on from the last save")
    arguments = parser.parse_args()
    train(
        TrainingRecipe(arguments.steps),
        arguments.output,
        arguments.state,
        minutes=arguments.minutes,
        save_every=arguments.save_every,
        resume=arguments.resume,
        device="cuda" if torch.cuda.is_available() else "cpu",
    )


if __name__ == "__main__":
    main()
