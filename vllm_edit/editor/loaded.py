"""The autograd copy of the model, in float32, and what it is brought back to."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from vllm_edit.processes.load_model import load
from weight_patchers import Delta, fingerprint
from weight_patchers.controls import Controls
from weight_patchers.governor import Bounds, Verdict, judge, relative_norms


@dataclass(eq=False)
class Loaded:
    """The model holds base + the deltas it was last made to hold by `apply` or `judge`.

    `pristine` are copies of whatever was ever written, so no rounding adds up; `controls`
    remembers what the base says.
    """

    model: PreTrainedModel
    tokenizer: Tokenizer
    fingerprint: str
    controls: Controls
    pristine: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def from_folder(cls, folder: Path, device: str) -> "Loaded":
        """Load a checkpoint folder. Raises Unavailable, or PatcherError for one of no use."""
        identity = fingerprint(folder)
        model, tokenizer = load(folder, device)
        return cls(model, tokenizer, identity, Controls.watch(model, tokenizer))

    def apply(self, deltas: Sequence[Delta]) -> None:
        """Make the weights equal to base + the sum of the deltas, float32."""
        for delta in deltas:
            delta.require_base(self.fingerprint)
        for name in {name for delta in deltas for name in delta.changes}:
            if name not in self.pristine:
                self.pristine[name] = self.model.get_parameter(name).detach().clone()
        with torch.no_grad():
            for name, base in self.pristine.items():
                total = base.clone()
                for delta in deltas:
                    if name in delta.changes:
                        factor = delta.changes[name]
                        dense = factor.dense().to(base.device)
                        total += dense.T if factor.transposed else dense
                self.model.get_parameter(name).copy_(total)

    def judge(self, deltas: Sequence[Delta], bounds: Bounds) -> Verdict:
        """Apply the deltas and hold what they do together against the bounds.

        Raises GovernorRefused when they pass one to refuse at.
        """
        self.apply(deltas)
        norms = relative_norms(deltas, self.pristine)
        return judge(bounds, norms, self.controls.drift(self.model))
