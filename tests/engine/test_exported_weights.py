"""An exported checkpoint, the engine and the editor have the same weights, bit for bit."""

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from tests.engine import models
from vllm_edit.editor.loaded import Loaded
from vllm_edit.engine.payload import live_sums, pack, unpack
from weight_patchers import Delta, Dense, LowRank, ParameterChange, fingerprint
from weight_patchers.export import to_checkpoint

HIDDEN, INNER = models.HIDDEN, models.INNER

GPT2 = {
    "transformer.h.0.mlp.c_proj.weight": (HIDDEN, 4 * HIDDEN),
    "transformer.h.1.mlp.c_fc.weight": (4 * HIDDEN, HIDDEN),
}
LLAMA = {
    "model.layers.0.mlp.down_proj.weight": (HIDDEN, INNER),
    "model.layers.1.mlp.gate_proj.weight": (INNER, HIDDEN),
}


def deltas(base: Path, shapes: Mapping[str, tuple[int, int]], count: int = 6) -> list[Delta]:
    """Every third one dense, the others of ranks one and two."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for number in range(count):
        changes: dict[str, ParameterChange] = {}
        for name, (d_out, d_in) in shapes.items():
            transposed = name.startswith("transformer.")
            rank = number % 3
            u = torch.randn(d_out, rank or d_in, generator=generator) / 5
            v = torch.randn(d_in, rank or 1, generator=generator) / 5
            changes[name] = LowRank(u, v, transposed) if rank else Dense(u, transposed)
        found.append(Delta(fingerprint(base), "ft-m", {}, changes, ()))
    return found


def convert(folder: Path, dtype: torch.dtype) -> None:
    """Give all weights of the checkpoint another dtype."""
    path = folder / "model.safetensors"
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("build", "shapes"), [(models.gpt2, GPT2), (models.llama, LLAMA)])
def test_exported_bytes_are_the_served_ones_in_any_order(
    build: Callable[[Path], Path],
    shapes: Mapping[str, tuple[int, int]],
    dtype: torch.dtype,
    tmp_path: Path,
) -> None:
    base = build(tmp_path / "base")
    convert(base, dtype)
    live = deltas(base, shapes)
    stored = load_file(base / "model.safetensors")
    served, _ = unpack(pack(live_sums(live, touched=())))
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    # Neither the tokenizer nor the control prompts matter for what `apply` does.
    editor = Loaded(model, cast("Any", None), fingerprint(base), cast("Any", None))
    for seed in range(3):
        shuffled = random.Random(seed).sample(live, len(live))
        output = tmp_path / f"exported-{seed}"
        to_checkpoint(shuffled, base, output)
        exported = load_file(output / "model.safetensors")
        editor.apply(shuffled)
        for name in shapes:
            weight = served[name].added_to(stored[name])
            assert exported[name].dtype == dtype
            assert torch.equal(exported[name], weight.to(dtype))
            assert torch.equal(editor.model.get_parameter(name), weight)
            assert not torch.equal(exported[name], stored[name])
