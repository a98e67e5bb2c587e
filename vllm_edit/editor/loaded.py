"""The autograd copy of the model, in float32, on which deltas are computed."""

import copy
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from vllm_edit.processes.load_model import load
from weight_patchers import Delta, Neurons, fingerprint
from weight_patchers.controls import Controls
from weight_patchers.delta_sum import join_neurons, sum_deltas
from weight_patchers.governor import Bounds, Verdict, judge, relative_norms
from weight_patchers.model.extra_units import attached


@dataclass(eq=False)
class Loaded:
    """The model, which holds the base + the deltas of the last `apply` or `judge`.

    `pristine` holds the base's values of every parameter that was ever changed, so that rounding
    errors do not add up; extra units are hooks. `controls` holds what the base answers to the
    control prompts.
    """

    model: PreTrainedModel
    tokenizer: Tokenizer
    fingerprint: str
    controls: Controls
    pristine: dict[str, Tensor] = field(default_factory=dict)
    _copies: list[PreTrainedModel] = field(default_factory=list)
    _units: Mapping[str, Neurons] = field(default_factory=dict)
    _attached: ExitStack = field(default_factory=ExitStack)

    @classmethod
    def from_folder(cls, folder: Path, device: str) -> "Loaded":
        """Load a checkpoint folder; raises Unavailable or PatcherError if that is impossible."""
        identity = fingerprint(folder)
        model, tokenizer = load(folder, device)
        return cls(model, tokenizer, identity, Controls.watch(model, tokenizer))

    def apply(self, deltas: Sequence[Delta]) -> None:
        """Make the model the base + the sum of the deltas, float32."""
        for delta in deltas:
            delta.require_base(self.fingerprint)
        changes = sum_deltas(deltas)
        for name in changes.keys() - self.pristine.keys():
            self.pristine[name] = self.model.get_parameter(name).detach().clone()
        with torch.no_grad():
            for name, base in self.pristine.items():
                weight = changes[name].added_to(base) if name in changes else base
                for model in (self.model, *self._copies):
                    model.get_parameter(name).copy_(weight)
        self._units = join_neurons(deltas)
        self._attach()

    def rounded(self, dtype: str) -> PreTrainedModel:
        """A model in `dtype` that holds what this one does, from now on; in float32, this one.

        Each weight is the cast of base + deltas, as a server's is.
        """
        wanted: torch.dtype = getattr(torch, dtype)
        if wanted == self.model.dtype:
            return self.model
        # Hooks are not copied: the copy gets its own.
        self._attached.close()
        rounded: Any = copy.deepcopy(self.model)
        rounded = rounded.to(wanted)
        self._copies.append(rounded)
        self._attach()
        return self._copies[-1]

    def _attach(self) -> None:
        """Have the models these extra units and no others."""
        self._attached.close()
        with ExitStack() as undo:
            for model in (self.model, *self._copies):
                undo.enter_context(attached(model, self._units))
            self._attached = undo.pop_all()

    def judge(self, deltas: Sequence[Delta], bounds: Bounds) -> Verdict:
        """Apply the deltas and compare their common effect with the bounds.

        Raises GovernorRefused when it passes a bound to refuse at.
        """
        self.apply(deltas)
        norms = relative_norms(deltas, self.pristine)
        return judge(bounds, norms, self.controls.drift(self.model))
