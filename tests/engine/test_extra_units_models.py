"""Extra inner units in models of other shapes and types: exact when unused, and back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.engine import models
from tests.engine.extra_units import units_delta
from tests.engine.offline_swaps import PROMPT, Job, found
from weight_patchers import applied

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LAYER, SPARE, USED = 1, 8, 3


@dataclass(frozen=True)
class Case:
    """A model, its MLP with units, with a bias or without, and how it is served."""

    build: Callable[[Path], Path]
    mlp: str = f"model.layers.{LAYER}.mlp"
    bias: bool = False
    dtype: str = "float32"
    in_place: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


CASES = {
    "gated": Case(models.llama),
    "plain": Case(models.gpt2, f"transformer.h.{LAYER}.mlp", bias=True),
    "transformers backend": Case(models.neox, f"gpt_neox.layers.{LAYER}.mlp", bias=True),
    "bfloat16": Case(models.llama, dtype="bfloat16"),
    "in place": Case(models.llama, in_place=True),
    "adapters": Case(models.llama, options={"enable_lora": True, "max_lora_rank": 8}),
    "compiled": Case(models.llama, options={"enforce_eager": False}),
}

Seen = list[dict[str, Any]]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {name: case.build(folder / name) for name, case in CASES.items()}


@pytest.fixture(scope="module")
def results(
    bases: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Seen]:
    """What each engine served, without spare units and with them; all in one process."""
    folder = tmp_path_factory.mktemp("swaps")
    jobs: dict[str, Job] = {}
    for name, case in CASES.items():
        file = folder / f"{name}.safetensors"
        units_delta(bases[name], case.mlp, 1, USED, case.bias).save(file)
        more = folder / f"{name} more.safetensors"
        units_delta(bases[name], case.mlp, 2, SPARE, case.bias).save(more)
        options = {"dtype": case.dtype, **case.options}
        swaps = ((str(file),), (str(file), str(more)), ())
        base = str(bases[name])
        jobs[name] = Job(base, options, swaps, case.in_place, spare=SPARE, spare_layer=LAYER)
        jobs[f"{name} without"] = Job(base, options, (), case.in_place)
    return dict(zip(jobs, found(list(jobs.values()), folder / "found.json"), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_unused_units_change_nothing_in_any_bit(name: str, results: Mapping[str, Seen]) -> None:
    (unused, *_), (without,) = results[name], results[f"{name} without"]
    assert unused["answer"] == without["answer"]
    assert unused["digests"].items() >= without["digests"].items()
    assert len(unused["digests"]) == len(without["digests"]) + 1


@pytest.mark.parametrize("name", CASES)
def test_units_are_served_and_taken_back_exactly(
    name: str, results: Mapping[str, Seen], bases: Mapping[str, Path]
) -> None:
    unused, used, refused, back = results[name]
    assert [used["fault"], back["fault"]] == ["", ""]
    assert f"{SPARE} spare units, not {SPARE + USED}" in refused["fault"]
    assert {**refused, "fault": ""} == used
    assert {**unused, "fault": ""} == back
    assert used["answer"] != unused["answer"]
    assert used["addresses"] == unused["addresses"]
    if CASES[name].dtype == "float32":
        expected = answer(bases[name], CASES[name])
        assert [token for token, _ in used["answer"]] == [token for token, _ in expected]
        assert [p for _, p in used["answer"]] == pytest.approx([p for _, p in expected], abs=1e-3)


def answer(base: Path, case: Case) -> list[tuple[int, float]]:
    """What plain Transformers with the same units answers."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    delta = units_delta(base, case.mlp, 1, USED, case.bias)
    ids, tokens = torch.tensor([PROMPT]), []
    with applied(model, [delta]), torch.no_grad():
        for _ in range(6):
            scores = model(ids).logits[0, -1].log_softmax(0)
            tokens.append((int(scores.argmax()), float(scores.max())))
            ids = torch.cat([ids, scores.argmax().view(1, 1)], 1)
    return tokens
