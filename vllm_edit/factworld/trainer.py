"""Trains the model on all cores or on one GPU."""

import os
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Queue
from typing import Any

import torch
from torch import Tensor

from vllm_edit.factworld.model import BEFORE_READING, FactModel, ModelShape, Noise
from vllm_edit.factworld.optimizer import Muon
from vllm_edit.factworld.perturbation import edit, noise_at_subjects
from vllm_edit.factworld.recipe import TrainingRecipe
from vllm_edit.factworld.rows import TrainingBatch


class Trainer:
    """The model, its optimizers, and one replica per worker that shares its parameters.

    Each worker computes whole batches on one thread. For this small model that is faster than
    operations on all threads, and other programs on a core delay only one worker.
    """

    def __init__(self, recipe: TrainingRecipe, shape: ModelShape, device: str) -> None:
        self.recipe = recipe
        self.device = device
        self.model = FactModel(shape).to(device)
        workers = 1 if device == "cuda" else os.cpu_count() or 1
        # The setting applies only to the thread that calls it.
        self._pool = ThreadPoolExecutor(workers, "trainer", torch.set_num_threads, (1,))
        self._replicas: Queue[FactModel] = Queue()
        self._all = [self._replica() for _ in range(workers)]
        for replica in self._all:
            self._replicas.put(replica)
        named = list(self.model.named_parameters())
        matrices: list[Tensor] = [p for name, p in named if p.dim() == 2 and "embed" not in name]
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

    def submit(self, lessons: list[TrainingBatch]) -> list[Future[tuple[float, float]]]:
        """Start to compute the gradients. Each future gives the summed loss and its weight."""
        total = sum(float(lesson.weight.sum()) for lesson in lessons)
        width, size = self.model.shape.width, self.recipe.noise
        low, high = self.recipe.edit_sizes
        running = []
        for lesson in lessons:
            noise = noise_at_subjects(lesson, width, size, self._generator)
            drawn = torch.rand(len(lesson.ids), 1, generator=self._generator)
            layer = int(torch.randint(BEFORE_READING, (), generator=self._generator))
            reach = (low + (high - low) * drawn).to(self.device)
            arguments = (lesson.to(self.device), noise, layer, reach, total)
            running.append(self._pool.submit(self._gradient, *arguments))
        return running

    def _gradient(
        self, lesson: TrainingBatch, noise: list[Noise], layer: int, reach: Tensor, total: float
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
        """The state that `load` restores."""
        muon, adam = self._muon.state(), self._adam.state_dict()
        return {"model": self.model.state_dict(), "muon": muon, "adam": adam}

    def load(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self._muon.load(state["muon"])
        self._adam.load_state_dict(state["adam"])

    def update(self, rate: float) -> None:
        """Apply the gradients of all workers and clear them."""
        for parameter, *copies in zip(
            self.model.parameters(), *(r.parameters() for r in self._all), strict=True
        ):
            gradients = [copy.grad for copy in copies if copy.grad is not None]
            parameter.grad = sum(gradients[1:], gradients[0])
            for copy in copies:
                copy.grad = None
        torch.nn.utils.clip_grad_norm_(self._rest, 1.0)
        for group in self._adam.param_groups:
            group["lr"] = self.recipe.other_rate * rate
        self._adam.step()
        self._adam.zero_grad()
        self._muon.step(self.recipe.matrix_rate * rate)
