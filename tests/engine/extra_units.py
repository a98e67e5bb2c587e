"""Random extra units for tests, and what a server needs to take them."""

import json
from pathlib import Path

import torch

from weight_patchers import Delta, Edit, Neurons, fingerprint


def random_neurons(seed: int, count: int, width: int, gated: bool, bias: bool = False) -> Neurons:
    """Units that change what a small model answers."""
    generator = torch.Generator().manual_seed(seed)

    def part(scale: float) -> torch.Tensor:
        return torch.randn(width, count, generator=generator) * scale

    if gated:
        return Neurons(v=part(1.0), g=part(0.3), u=part(0.3))
    b = torch.randn(count, generator=generator) if bias else None
    return Neurons(v=part(1.0), k=part(0.3), b=b)


def units_delta(base: Path, mlp: str, seed: int, count: int, bias: bool = False) -> Delta:
    """A delta of the checkpoint ``base`` that adds random units to one MLP."""
    config = json.loads((base / "config.json").read_text())
    width = config.get("hidden_size") or config["n_embd"]
    gated = config["model_type"] == "llama"
    neurons = random_neurons(seed, count, width, gated, bias)
    return Delta(fingerprint(base), "t-patcher", {}, {mlp: neurons}, (Edit("a", "a", "b"),))
