"""The reserve of inner units that a worker makes when it has loaded its model.

vLLM compiles a model and captures its CUDA graphs after this, with the units in it.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any

from transformers import PretrainedConfig, PreTrainedModel

from vllm_edit.engine.checkpoint import resolve
from vllm_edit.engine.extra_units import ExtraUnits, spare_count
from vllm_edit.engine.mlp_form import MlpForm
from vllm_edit.engine.placement import place
from vllm_edit.vllm_interface.layers import adds_once, without_adapters
from vllm_edit.vllm_interface.workers import note_in_compile_hash
from weight_patchers.export.request import without_weights
from weight_patchers.hyperparameters import find
from weight_patchers.methods import METHODS
from weight_patchers.model.layers import find_projection

LAYERS = "VLLM_EDIT_SPARE_LAYERS"
"""The setting, as a worker process finds it in its environment."""

UNIT_METHODS = ("t-patcher", "calinet")
"""The methods whose edits are extra units."""

logger = logging.getLogger(__name__)


def reserve(worker: Any) -> None:
    """Give the MLPs of the chosen layers that this rank has their spare units.

    Raises:
        SwapFailed: one of them is no MLP that units can be added to.
        Unavailable: the checkpoint is not on disk.
        PatcherError: the model has no such layer, or no dense MLP there.
    """
    count = spare_count()
    if count == 0:
        return
    config = worker.model_runner.vllm_config.model_config
    model = worker.model_runner.get_model()
    outline = without_weights(resolve(config.model, config.revision))
    chosen = chosen_layers(os.environ.get(LAYERS, ""), outline.config)
    for units, module in _made(model, outline, chosen, count, config.dtype):
        units.attach(module)
        logger.info("%s has %d spare inner units.", units.mlp, count)
    # Without this vLLM could take a compiled model of a server without them from its cache.
    note_in_compile_hash(worker, "vllm_edit_spare_units", f"{count} in {chosen}")


def chosen_layers(named: str, config: PretrainedConfig) -> Sequence[int]:
    """The layers named, as "4,5"; else those that the methods' own hyperparameters name."""
    if named:
        return [int(number) for number in named.split(",")]
    methods = [METHODS[name] for name in UNIT_METHODS]
    return sorted({n for m in methods for n in find(m.hparams, m.name, config).layers})


def _made(
    model: Any, outline: PreTrainedModel, chosen: Sequence[int], count: int, dtype: Any
) -> Iterator[tuple[ExtraUnits, Any]]:
    """The units for each MLP of these layers that is on this rank, with its module."""
    for number in chosen:
        projection = find_projection(outline, number)
        shapes = {projection.name: tuple(projection.weight.shape)}
        for placement in place(model, shapes, dtype):
            if not adds_once(placement.layer):
                continue
            mlp = projection.name.rsplit(".", 2)[0]
            with without_adapters(model):
                module = model.get_submodule(placement.name.rpartition(".")[0])
                form = MlpForm.of(mlp, module, placement.layer)
            device = placement.layer.weight.device
            yield ExtraUnits(mlp, form, count, dtype, device), module
