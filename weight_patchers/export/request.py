"""The input of every export: a base, and the changes of its parameters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from weight_patchers.delta import Delta, Neurons, ParameterChange
from weight_patchers.delta_sum import DeltaSum, changes_of, join_neurons
from weight_patchers.errors import CannotExport, CorruptDelta, UnreadableCheckpoint
from weight_patchers.fingerprint import fingerprint


@dataclass(frozen=True, eq=False)
class Request:
    """Deltas to export, checked to belong to the base and to fit it.

    `model` is the base on the meta device, without its weights; `changes` holds every change of
    each parameter that the deltas touch, and `neurons` all extra units by the name of their MLP.
    """

    base: Path
    model: PreTrainedModel
    changes: Mapping[str, Sequence[ParameterChange]]
    neurons: Mapping[str, Neurons]

    @classmethod
    def of(cls, deltas: Sequence[Delta], base: Path) -> "Request":
        """Check the deltas against the checkpoint folder `base`.

        Raises:
            CannotExport: no delta changes anything.
            WrongBase: a delta was computed for another base.
            CorruptDelta: the base has no such parameter, or it is of another shape.
            UnreadableCheckpoint: Transformers knows no causal language model for the folder.
        """
        identity = fingerprint(base)
        for delta in deltas:
            delta.require_base(identity)
        if not any(delta.changes for delta in deltas):
            raise CannotExport("no delta changes anything: name at least one that does")
        request = cls.trusting(deltas, base, without_weights(base))
        request._require_fit()
        return request

    @classmethod
    def trusting(cls, deltas: Sequence[Delta], base: Path, model: PreTrainedModel) -> "Request":
        """As `of`, for deltas that were computed for this very base; nothing is checked."""
        return cls(base, model, changes_of(deltas), join_neurons(deltas))

    def names(self, parameter: str) -> list[str]:
        """All names of the parameter with that name: more than one where weights are tied."""
        weight = self.model.get_parameter(parameter)
        named = self.model.named_parameters(remove_duplicate=False)
        return [name for name, other in named if other is weight]

    def sum(self, parameter: str) -> DeltaSum:
        """The sum of the parameter's changes."""
        return DeltaSum.of(self.changes[parameter])

    def _require_fit(self) -> None:
        shapes = {n: tuple(p.shape) for n, p in self.model.named_parameters(remove_duplicate=False)}
        for name, changes in self.changes.items():
            for change in changes:
                shape = change.shape[::-1] if change.transposed else change.shape
                if shapes.get(name) != shape:
                    raise CorruptDelta(
                        f"a delta changes {name} of shape {shape}, which the base has not: "
                        "compute the edit again"
                    )


def without_weights(base: Path) -> PreTrainedModel:
    """The checkpoint's model on the meta device; raises UnreadableCheckpoint."""
    try:
        config = AutoConfig.from_pretrained(base)
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    except (OSError, ValueError, KeyError) as error:
        raise UnreadableCheckpoint(f"Transformers cannot load {base}: {error}") from error
    return model
