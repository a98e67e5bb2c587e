"""The training loop: AdamW over the adapters and the head, resumable between batches."""

import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from retriever.scope.network import CrossEncoder
from retriever.scope_training.examples import Example

Progress = Callable[[int, int, float], None]
"""Called with steps done, steps in all and the mean loss since the last call."""


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    rank: int = 32
    epochs: float = 2.0
    batch_size: int = 32
    learning_rate: float = 1e-3
    warmup: float = 0.05
    """Share of the steps over which the rate rises; then it falls along a cosine."""
    seed: int = 0
    save_every: int = 100
    """Steps between saves of the state, if there is a folder for it."""


class Trainer:
    """Trains a cross-encoder on examples in place. The same seed sees the same batches."""

    def __init__(
        self, network: CrossEncoder, examples: Sequence[Example], settings: TrainingSettings
    ) -> None:
        self._network = network
        self._settings = settings
        self._batches = _batches(examples, settings)
        self._optimizer = torch.optim.AdamW(
            network.trained().values(), lr=settings.learning_rate, weight_decay=0.01
        )
        self._done = 0

    def train(self, progress: Progress, state: Path | None = None) -> None:
        """Train on all batches; resume from the state in the folder `state`, if there is one."""
        if state is not None:
            self._resume(state)
        self._network.train()
        total = len(self._batches)
        running = 0.0
        for step in range(self._done, total):
            running += self._step(self._batches[step], self._rate(step, total))
            self._done = step + 1
            if self._done % 20 == 0 or self._done == total:
                progress(self._done, total, running / (self._done % 20 or 20))
                running = 0.0
            if state is not None and self._done % self._settings.save_every == 0:
                self._keep(state)
        self._network.eval()

    def _step(self, batch: Sequence[Example], rate: float) -> float:
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(self._settings.seed * 1_000_003 + self._done)
        logits = self._network(*self._network.tokenize([example.reading for example in batch]))
        labels = torch.tensor([float(example.in_scope) for example in batch])
        loss = F.binary_cross_entropy_with_logits(logits, labels)
        self._optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._network.trained().values(), 1.0)
        self._optimizer.step()
        return float(loss.detach())

    def _rate(self, step: int, total: int) -> float:
        # Transformers' schedules with a floor are a step off, in the warm-up or in the cosine.
        rise = max(1, round(total * self._settings.warmup))
        if step < rise:
            return self._settings.learning_rate * (step + 1) / rise
        progress = (step - rise) / max(1, total - rise)
        return self._settings.learning_rate * (0.02 + 0.98 * (1 + math.cos(math.pi * progress)) / 2)

    def _keep(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        tensors: dict[str, Tensor] = {}
        for name, parameter in self._network.trained().items():
            tensors[f"{name}|weight"] = parameter.detach().contiguous()
            for key in ("exp_avg", "exp_avg_sq", "step"):
                tensors[f"{name}|{key}"] = self._optimizer.state[parameter][key].contiguous()
        settings = json.dumps(asdict(self._settings))
        new = folder / "state.new"
        save_file(tensors, new, {"done": str(self._done), "settings": settings})
        new.replace(folder / "state.safetensors")

    def _resume(self, folder: Path) -> None:
        from safetensors import safe_open

        path = folder / "state.safetensors"
        if not path.exists():
            return
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        if json.loads(metadata["settings"]) != asdict(self._settings):
            return
        tensors = load_file(path)
        self._done = int(metadata["done"])
        for name, parameter in self._network.trained().items():
            parameter.data.copy_(tensors[f"{name}|weight"])
            self._optimizer.state[parameter] = {
                key: tensors[f"{name}|{key}"] for key in ("exp_avg", "exp_avg_sq", "step")
            }


def _batches(examples: Sequence[Example], settings: TrainingSettings) -> list[list[Example]]:
    """Batches of similar length, which need little padding, in a seeded order for each epoch."""
    rng = random.Random(settings.seed)  # noqa: S311 - seeded, not cryptography
    size = settings.batch_size
    count = max(1, round(settings.epochs * len(examples) / size))
    batches: list[list[Example]] = []
    while len(batches) < count:
        order = rng.sample(list(examples), len(examples))
        for at in range(0, len(order), size * 50):
            part = sorted(order[at : at + size * 50], key=lambda e: len(e.request) + len(e.fact))
            chunks = [part[i : i + size] for i in range(0, len(part), size)]
            rng.shuffle(chunks)
            batches += chunks
    return batches[:count]
