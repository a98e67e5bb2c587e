"""Single edits of the local target: made side by side, and answered by rounded weights."""

from dataclasses import asdict, fields
from pathlib import Path

import pytest
import torch

from vllm_edit import factworld
from vllm_edit.editor.workbench import Options, Workbench
from vllm_edit.evaluation.local_target import WeightEditApplier
from vllm_edit.evaluation.sample import draw
from weight_patchers import Edit
from weight_patchers.hyperparameters import find
from weight_patchers.memit import MemitHparams
from weight_patchers.values.hparams import ValueHparams
from weight_patchers.values.shared_values import SharedValues


@pytest.fixture(scope="module")
def workbench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    folder = tmp_path_factory.mktemp("statistics")
    return Workbench(Options(factworld.checkpoint(), folder))


def changed(workbench: Workbench) -> dict[str, torch.Tensor]:
    """The parameters that a workbench's model has changed, by name."""
    loaded = workbench.load()
    return {name: loaded.model.get_parameter(name).clone() for name in loaded.pristine}


def test_expected_edits_are_the_same_as_unexpected_ones(
    workbench: Workbench, tmp_path: Path
) -> None:
    singles = [record.rewrites for record in draw("factworld", 3, 0).records]
    together, alone = (WeightEditApplier("rome", workbench, tmp_path) for _ in range(2))
    together.expect(singles)
    for rewrites in singles:
        weights = []
        for applier in (together, alone):
            with applier.clean_state():
                applied = applier.apply(rewrites)
                weights.append(changed(workbench))
            assert applied.failures == ()
            assert applied.seconds > 0.0
        for name, weight in weights[0].items():
            base = workbench.load().pristine[name]
            # Rounding of the search differs a little.
            difference = (weight - weights[1][name]).norm() / (weight - base).norm()
            assert difference < 0.05
    # Whatever was made beforehand was used once.
    assert not together._made


def test_a_second_edit_in_effect_is_never_one_made_beforehand(
    workbench: Workbench, tmp_path: Path
) -> None:
    first, second = (record.rewrites for record in draw("factworld", 2, 0).records)
    applier = WeightEditApplier("rome", workbench, tmp_path)
    applier.expect([first, second])
    with applier.clean_state():
        applier.apply(first)
        assert second[0] in applier._made
        applier.apply(second)
        assert second[0] in applier._made


def test_answers_come_from_weights_rounded_as_a_server_rounds_them(
    workbench: Workbench, tmp_path: Path
) -> None:
    (record,) = draw("factworld", 1, 0).records
    answering = workbench.answering("bfloat16")
    assert workbench.answering("float32") is workbench.load().model
    applier = WeightEditApplier("rome", workbench, tmp_path)
    with applier.clean_state():
        applier.apply(record.rewrites)
        for name, weight in changed(workbench).items():
            assert torch.equal(answering.get_parameter(name), weight.to(torch.bfloat16))
    for name, base in workbench.load().pristine.items():
        assert torch.equal(answering.get_parameter(name), base.to(torch.bfloat16))


def test_a_method_uses_the_values_that_another_found_and_counts_their_time(
    workbench: Workbench, tmp_path: Path
) -> None:
    (record,) = draw("factworld", 1, 0).records
    edits = [Edit(r.prompt, r.subject, r.target_new) for r in record.rewrites]
    config = workbench.load().model.config
    shared = asdict(find(MemitHparams, "memit", config))
    likewise = {key: shared[key] for key in ("layers", *(f.name for f in fields(ValueHparams)))}
    sharing = Workbench(workbench.options, SharedValues())
    expected, found = (
        [
            bench.compute(method, edits, likewise, {}, [], tmp_path / "delta.safetensors")
            for method in ("memit", "emmet", "pmet")
        ]
        for bench in (workbench, sharing)
    )
    for alone, together in zip(expected, found, strict=True):
        for name, change in alone.changes.items():
            assert torch.equal(change.dense(), together.changes[name].dense())
    # PMET seeks its values elsewhere.
    assert sharing.shared is not None
    assert len(sharing.shared._groups) == 2
    assert workbench.saved == 0.0 < sharing.saved
