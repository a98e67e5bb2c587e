"""Swaps in models of other shapes and types: as if the merged checkpoint had been loaded."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine import models
from tests.engine.offline_swaps import Job, found
from weight_patchers import Delta, Dense, Edit, LowRank, fingerprint
from weight_patchers.export.adapter import to_peft

HIDDEN, INNER = models.HIDDEN, models.INNER

GPT2 = {
    "transformer.h.0.mlp.c_proj.weight": (HIDDEN, 4 * HIDDEN),
    "transformer.h.1.mlp.c_fc.weight": (4 * HIDDEN, HIDDEN),
    "transformer.h.1.attn.c_attn.weight": (3 * HIDDEN, HIDDEN),
}
LLAMA = {
    "model.layers.0.mlp.down_proj.weight": (HIDDEN, INNER),
    "model.layers.1.mlp.gate_proj.weight": (INNER, HIDDEN),
    "model.layers.1.self_attn.q_proj.weight": (HIDDEN, HIDDEN),
    "model.layers.1.self_attn.v_proj.weight": (HIDDEN // 2, HIDDEN),
}
NEOX = {
    "gpt_neox.layers.0.mlp.dense_4h_to_h.weight": (HIDDEN, INNER),
    "gpt_neox.layers.1.attention.query_key_value.weight": (3 * HIDDEN, HIDDEN),
}


@dataclass(frozen=True)
class Case:
    """A model, how it is served, and the parameters that are edited.

    ``oracle`` names the case whose merged checkpoint serves the same; empty for its own.
    """

    build: Callable[[Path], Path]
    shapes: Mapping[str, tuple[int, int]]
    dtype: str = "float32"
    in_place: bool = False
    adapter: bool = False
    oracle: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


CASES = {
    "transposed": Case(models.gpt2, GPT2),
    "fused": Case(models.llama, LLAMA),
    "transformers backend": Case(models.neox, NEOX),
    "bfloat16": Case(models.llama, LLAMA, "bfloat16"),
    "float16": Case(models.llama, LLAMA, "float16"),
    "in place": Case(models.llama, LLAMA, in_place=True),
    "adapter": Case(models.llama, LLAMA, adapter=True, options={"max_lora_rank": 8}),
    "compiled": Case(models.llama, LLAMA, oracle="fused", options={"enforce_eager": False}),
}

REFUSED = {
    "transformer.wte.weight": "only weights of unquantised linear layers",
    "lm_head.weight": "no tensor named",
    # Last, after the checkpoint has been changed under the engine:
    "transformer.h.0.mlp.c_proj.weight": "not what the checkpoint holds",
}
"""Parameters of GPT-2, the first two tied to each other, and why they are refused."""


def delta(base: Path, shapes: Mapping[str, tuple[int, int]], seed: int = 0) -> Delta:
    """A random change of each parameter: every other one dense, the others of rank two."""
    generator = torch.Generator().manual_seed(seed)
    changes: dict[str, LowRank | Dense] = {}
    for number, (name, shape) in enumerate(shapes.items()):
        u, v = (torch.randn(size, 2, generator=generator) * 0.2 for size in shape)
        change = LowRank(u, v, name.startswith("transformer."))
        changes[name] = Dense(change.dense(), change.transposed) if number % 2 else change
    return Delta(fingerprint(base), "ft-m", {}, changes, (Edit("a", "a", "b"),))


pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

Seen = list[dict[str, Any]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Seen]:
    """What each engine served at first and after each swap; all in one process, to import once."""
    folder = tmp_path_factory.mktemp("models")
    jobs: dict[str, Job] = {}
    for name, case in CASES.items():
        base = case.build(folder / name)
        made = delta(base, case.shapes)
        made.save(folder / f"{name}.safetensors")
        options = {"dtype": case.dtype, **case.options}
        swaps = ((str(folder / f"{name}.safetensors"),), ())
        adapter = _adapter(base, folder / f"{name} adapter") if case.adapter else None
        jobs[name] = Job(str(base), options, swaps, case.in_place, adapter)
        if not case.oracle:
            merged = models.merged(base, [made], folder / f"{name} merged")
            jobs[f"{name} merged"] = Job(str(merged), options, (), case.in_place, adapter)
    jobs["refused"] = _refused(folder)
    return dict(zip(jobs, found(list(jobs.values()), folder / "found.json"), strict=True))


def _adapter(base: Path, output: Path) -> str:
    """A LoRA adapter of what is low-rank in another delta."""
    other = delta(base, LLAMA, seed=1)
    changes = {name: c for name, c in other.changes.items() if isinstance(c, LowRank)}
    to_peft([replace(other, changes=changes)], base, output)
    return str(output)


def _refused(folder: Path) -> Job:
    base = models.gpt2(folder / "refused")
    for name in REFUSED:
        shape = GPT2.get(name, (models.VOCABULARY, HIDDEN))
        delta(base, {name: shape}).save(folder / f"{name}.safetensors")
    swaps = tuple((str(folder / f"{name}.safetensors"),) for name in REFUSED)
    return Job(str(base), {"dtype": "float32"}, swaps, spoiled_before=len(swaps))


@pytest.mark.parametrize("name", CASES)
def test_a_swap_is_as_if_the_merged_checkpoint_had_been_loaded(
    name: str, results: Mapping[str, Seen]
) -> None:
    oracle = CASES[name].oracle or name
    (plain, swapped, back), (merged,) = results[name], results[f"{oracle} merged"]
    assert [swapped["fault"], back["fault"]] == ["", ""]
    assert swapped["digests"] == merged["digests"] != plain["digests"]
    found, expected = (dict(seen["answer"]) for seen in (swapped, merged))
    assert list(found) == list(expected)
    assert found == pytest.approx(expected, abs=0.0 if oracle == name else 1e-4)
    for served in ("digests", "answer"):
        assert back[served] == plain[served] != swapped[served]
    assert not CASES[name].in_place or plain["addresses"] == swapped["addresses"]


def test_loaded_adapters_stay_loaded_through_a_swap(results: Mapping[str, Seen]) -> None:
    (plain, swapped, back), (merged,) = results["adapter"], results["adapter merged"]
    assert swapped["loaded"] == back["loaded"] == [1]
    assert swapped["adapted"] == merged["adapted"] != plain["adapted"]
    assert swapped["adapted"] != swapped["answer"]
    assert back["adapted"] == plain["adapted"]


def test_what_cannot_be_replaced_is_refused_with_a_reason(results: Mapping[str, Seen]) -> None:
    plain, *refused = results["refused"]
    for reason, after in zip(REFUSED.values(), refused, strict=True):
        assert reason in after["fault"]
        assert {**after, "fault": None} == {**plain, "fault": None}
