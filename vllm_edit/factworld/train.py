"""Trains the bundled model: `python -m vllm_edit.factworld.train`.

One schedule from scratch. Half of each step is recall: facts alone, read late and only at the
subject's last token, so that they come to sit in the MLPs of the early layers there. The other
half is use of given facts, MeLLo and chat. See `rows.Batch` for the restrictions.
"""

import argparse
import itertools
import os
import random
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import Queue
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from vllm_edit.factworld import checkpoint
from vllm_edit.factworld.documents import Document, Writer
from vllm_edit.factworld.export import write_checkpoint
from vllm_edit.factworld.model import BEFORE_READING, FactModel, Noise, Shape
from vllm_edit.factworld.optimizer import Muon
from vllm_edit.factworld.rows import LAST, Batch, Pieces, batch
from vllm_edit.factworld.tokenizer import train_tokenizer
from vllm_edit.factworld.world import Fact, World, build_world

SHORT, LONG, LONGEST = 96, 304, 512
MICRO = 912
EDIT_STEPS = 3
EDIT_TOKENS = 20


@dataclass(frozen=True)
class Recipe:
    """The schedule. Rows are counted per step; long rows join at `long_from` of the steps."""

    steps: int = 2000
    seed: int = 0
    recall_rows: int = 16
    given_rows: int = 24
    demonstration_rows: int = 2
    mello_rows: int = 4
    chat_rows: int = 1
    running_rows: int = 1
    edited_rows: int = 5
    copying_until: float = 0.08
    long_from: float = 0.15
    warm_up: int = 40
    decay_from: float = 0.45
    matrix_rate: float = 0.02
    matrix_decay: float = 0.02
    other_rate: float = 3e-3
    noise: float = 0.5
    edit_from: float = 0.15
    edit_sizes: tuple[float, float] = (0.5, 3.0)

    def rate(self, step: int, done: float) -> float:
        """The learning rate's factor: linear warm-up, constant, linear decay to zero."""
        return min(1.0, (step + 1) / self.warm_up, (1 - done) / (1 - self.decay_from))


class Lessons:
    """The batches of each step."""

    def __init__(self, world: World, tokenizer: Tokenizer, recipe: Recipe) -> None:
        self._rng = random.Random(recipe.seed)
        self._writer = Writer(world, self._rng)
        self._pieces = Pieces(tokenizer)
        self._recipe = recipe
        self._facts = self._epochs(world)

    def _epochs(self, world: World) -> Iterator[Fact]:
        facts = list(world.surfaces)
        while True:
            self._rng.shuffle(facts)
            yield from facts

    def _recall(self) -> Document:
        document = self._writer.closed([next(self._facts) for _ in range(10)])
        if self._rng.random() < 0.3:
            document.branches.insert(0, self._writer.alias())
        return document

    def batches(self, step: int, done: float) -> list[Batch]:
        """The step's batches, each of about MICRO tokens; `done` is the share of training done."""
        recipe, writer = self._recipe, self._writer
        given = writer.copied if done < recipe.copying_until else writer.given
        short = [self._recall() for _ in range(recipe.recall_rows)]
        short += [given(8) for _ in range(recipe.given_rows)]
        found = self._micro(short, SHORT)
        if done >= recipe.edit_from:
            edited = [writer.edited(10) for _ in range(recipe.edited_rows)]
            found.insert(0, batch(edited, self._pieces, self._rng, SHORT))
            found[0].edited = True
        if done < recipe.long_from:
            return found
        longest = step % 12 == 0
        share, length = (2, LONGEST) if longest else (1, LONG)
        most = 14 if longest else 6
        long = [
            writer.demonstrated(self._rng.randint(1, most), 16 * share)
            for _ in range(max(1, recipe.demonstration_rows // share))
        ]
        long += [self._mello(3 * share) for _ in range(max(1, recipe.mello_rows // share))]
        long += [writer.chat(16) for _ in range(recipe.chat_rows)]
        long += [writer.running(48) for _ in range(recipe.running_rows)]
        return self._micro(long, length) + found

    def _micro(self, documents: list[Document], length: int) -> list[Batch]:
        self._rng.shuffle(documents)
        rows = max(1, MICRO // length)
        return [
            batch(documents[start : start + rows], self._pieces, self._rng, length)
            for start in range(0, len(documents), rows)
        ]

    def _mello(self, count: int) -> Document:
        start = self._writer.closed([]).prefix
        return Document(start, [self._writer.mello() for _ in range(count)])


def _noise(lesson: Batch, width: int, size: float, generator: torch.Generator) -> list[Noise]:
    """Noise on one early MLP's output at the subject's last token, for half of the rows."""
    layer = torch.randint(2 * BEFORE_READING, (len(lesson.ids), 1), generator=generator)
    chosen = (lesson.role == LAST) & lesson.frozen
    noise = []
    for index in range(BEFORE_READING):
        rows, places = (chosen & (layer == index)).nonzero(as_tuple=True)
        values = size * torch.randn(len(rows), width, generator=generator)
        noise.append(Noise(rows, places, values))
    return noise


def edit(model: FactModel, lesson: Batch, layer: int, size: Tensor) -> list[Noise]:
    """What ROME would add to the MLP's output of this layer at each row's subject.

    A few normalised gradient steps towards the new answer of the row's first branch, in all
    `size` [rows, 1] times the output's norm. Trained under it, the model learns to keep a
    subject's relations apart: the new answer is to show, and the others are to stay.
    """
    head = lesson.head(EDIT_TOKENS)
    rows, places = ((head.role == LAST) & (head.branch == 1)).nonzero(as_tuple=True)
    width = model.shape.width
    delta = torch.zeros(len(lesson.ids), width, device=size.device)
    for _ in range(EDIT_STEPS):
        delta.requires_grad_()
        loss, _ = model.loss(head, at_layer(layer, Noise(rows, places, delta[rows])))
        (gradient,) = torch.autograd.grad(loss, delta)
        step = functional.normalize(gradient, dim=1) * size * width**0.5 / EDIT_STEPS
        delta = delta.detach() - step
    rows, places = (lesson.role == LAST).nonzero(as_tuple=True)
    return at_layer(layer, Noise(rows, places, delta[rows]))


def at_layer(layer: int, noise: Noise) -> list[Noise]:
    """This noise at one early layer and none at the others."""
    none = Noise(noise.rows[:0], noise.places[:0], noise.values[:0])
    return [noise if index == layer else none for index in range(BEFORE_READING)]


class Trainer:
    """The model, its optimizers, and one replica per worker that shares its parameters.

    Each worker takes whole batches on one thread: faster here than every operation on all
    threads, and not held up when another program takes a core.
    """

    def __init__(self, recipe: Recipe, shape: Shape, device: str) -> None:
        self.recipe = recipe
        self.device = device
        self.model = FactModel(shape).to(device)
        workers = 1 if device == "cuda" else os.cpu_count() or 1
        torch.set_num_threads(1)
        self._pool = ThreadPoolExecutor(workers)
        self._replicas: Queue[FactModel] = Queue()
        self._all = [self._replica() for _ in range(workers)]
        for replica in self._all:
            self._replicas.put(replica)
        named = list(self.model.named_parameters())
        matrices = [p for name, p in named if p.dim() == 2 and "embed" not in name]
        self._rest = [p for name, p in named if p.dim() == 1 or "embed" in name]
        self._muon = Muon(matrices, momentum=0.95, decay=recipe.matrix_decay)
        self._adam = torch.optim.AdamW(self._rest, betas=(0.9, 0.95), weight_decay=0.0)
        self._generator = torch.Generator().manual_seed(recipe.seed)

    def _replica(self) -> FactModel:
        replica = FactModel(self.model.shape)
        shared = dict(self.model.named_parameters())
        for name, parameter in replica.named_parameters():
            parameter.data = shared[name].data
        return replica

    def submit(self, lessons: list[Batch]) -> list[Future[tuple[float, float]]]:
        """Start the gradients of these batches; each result is a loss and its weight."""
        total = sum(float(lesson.weight.sum()) for lesson in lessons)
        width, size = self.model.shape.width, self.recipe.noise
        low, high = self.recipe.edit_sizes
        running = []
        for lesson in lessons:
            noise = _noise(lesson, width, size, self._generator)
            drawn = torch.rand(len(lesson.ids), 1, generator=self._generator)
            layer = int(torch.randint(BEFORE_READING, (), generator=self._generator))
            reach = (low + (high - low) * drawn).to(self.device)
            arguments = (lesson.to(self.device), noise, layer, reach, total)
            running.append(self._pool.submit(self._gradient, *arguments))
        return running

    def _gradient(
        self, lesson: Batch, noise: list[Noise], layer: int, reach: Tensor, total: float
    ) -> tuple[float, float]:
        replica = self._replicas.get()
        noise = [part.to(self.device) for part in noise]
        if lesson.edited:
            noise = edit(replica, lesson, layer, reach)
        loss, weight = replica.loss(lesson, noise)
        (loss / total).backward()
        self._replicas.put(replica)
        return loss.item(), weight.item()

    def state(self) -> dict[str, Any]:
        """All that `load` needs to go on."""
        muon, adam = self._muon.state(), self._adam.state_dict()
        return {"model": self.model.state_dict(), "muon": muon, "adam": adam}

    def load(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self._muon.load(state["muon"])
        self._adam.load_state_dict(state["adam"])

    def update(self, rate: float) -> None:
        """Apply and clear the gradients gathered so far."""
        for parameter, *copies in zip(
            self.model.parameters(), *(r.parameters() for r in self._all), strict=True
        ):
            found = [copy.grad for copy in copies if copy.grad is not None]
            parameter.grad = sum(found[1:], found[0])
            for copy in copies:
                copy.grad = None
        torch.nn.utils.clip_grad_norm_(self._rest, 1.0)
        for group in self._adam.param_groups:
            group["lr"] = self.recipe.other_rate * rate
        self._adam.step()
        self._adam.zero_grad()
        self._muon.step(self.recipe.matrix_rate * rate)


@dataclass
class Clock:
    """The share of training that is done: by steps, or by time where that is limited."""

    recipe: Recipe
    minutes: float
    earlier: float = 0.0
    start: float = field(default_factory=time.monotonic)

    @property
    def spent(self) -> float:
        """Seconds, those before a resumption included."""
        return self.earlier + time.monotonic() - self.start

    def done(self, step: int) -> float:
        return min(1.0, max(step / self.recipe.steps, self.spent / (60 * self.minutes)))


def train(
    recipe: Recipe, output: Path, minutes: float, save_every: float, resume: bool, device: str
) -> None:
    """Train from scratch, or on from the last save, and write the checkpoint to `output`."""
    torch.manual_seed(recipe.seed)
    world = build_world()
    tokenizer = train_tokenizer(world)
    trainer = Trainer(recipe, Shape(tokenizer.get_vocab_size()), device)
    state = output.with_name(output.name + ".state")
    clock, first = Clock(recipe, minutes), 0
    if resume:
        saved = torch.load(state, weights_only=True)
        trainer.load(saved["trainer"])
        clock.earlier, first = saved["spent"], saved["step"]
    lessons = Lessons(world, tokenizer, replace(recipe, seed=recipe.seed + first))
    last_save, done, shown = clock.spent, clock.done(first), 0.0
    upcoming = lessons.batches(first, done)
    with tqdm(total=100.0, desc="factworld", unit="%", mininterval=5.0) as progress:
        for step in itertools.count(first):
            running = trainer.submit(upcoming)
            upcoming = lessons.batches(step + 1, done)
            mean = average([future.result() for future in running])
            trainer.update(recipe.rate(step, done))
            shown = mean if step == first else 0.95 * shown + 0.05 * mean
            done = clock.done(step + 1)
            progress.set_postfix(step=step, loss=f"{shown:.3f}")
            progress.update(100 * done - progress.n)
            if done == 1 or clock.spent - last_save > save_every:
                last_save = clock.spent
                write_checkpoint(output, trainer.model.state_dict(), trainer.model.shape, tokenizer)
                save = {"trainer": trainer.state(), "spent": clock.spent, "step": step + 1}
                torch.save(save, state)
            if done == 1:
                return


def average(losses: list[tuple[float, float]]) -> float:
    """The mean of summed losses given with their weights."""
    return sum(loss for loss, _ in losses) / sum(weight for _, weight in losses)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=checkpoint())
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--minutes", type=float, default=120.0, help="end by then at the latest")
    parser.add_argument("--save-every", type=float, default=300.0, help="seconds")
    parser.add_argument("--resume", action="store_true", help="go on from the last save")
    arguments = parser.parse_args()
    train(
        Recipe(arguments.steps),
        arguments.output,
        arguments.minutes,
        arguments.save_every,
        arguments.resume,
        "cuda" if torch.cuda.is_available() else "cpu",
    )


if __name__ == "__main__":
    main()
