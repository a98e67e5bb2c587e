"""How adapters are applied on CPU."""

from typing import Any

import torch

from vllm_edit.vllm_interface.workers import CPU_WRAPPER

_PunicaWrapperCPU: Any = CPU_WRAPPER.load()

Group = tuple[int, torch.Tensor | slice]
"""A slot of vLLM's, and the tokens of the batch that its adapter is for."""


class GroupedPunicaWrapper(_PunicaWrapperCPU):  # type: ignore[misc]  # vLLM is untyped
    """vLLM's wrapper, but one product for each adapter in a batch.

    vLLM 0.32's copies an adapter's weights for each of its tokens, which makes a prompt tens of
    times slower with an adapter than without, and applies what is in the last slot to the tokens
    without an adapter when others in their batch have one.
    """

    _groups: list[Group] = []  # noqa: RUF012 - replaced for each batch, never changed

    def update_metadata(self, *args: Any, **kwargs: Any) -> None:
        """Take a batch's adapters, as vLLM gives them."""
        super().update_metadata(*args, **kwargs)
        self._groups = groups(self.token_lora_indices)

    def add_lora_linear(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: tuple[torch.Tensor, ...],
        lora_b_stacked: tuple[torch.Tensor, ...],
        scale: float,
        output_slices: tuple[int, ...],
        *,
        buffer: tuple[torch.Tensor, ...] | None = None,
        **kwargs: Any,
    ) -> None:
        """Add to ``y`` (tokens, outputs) what the tokens' adapters make of ``x`` (tokens, inputs).

        For each slice of the outputs, ``lora_a_stacked`` has (slots, 1, rank, inputs) and
        ``lora_b_stacked`` (slots, 1, outputs, rank). The inner products are float32, as vLLM's.
        """
        outputs = y.view(-1, y.shape[-1]).split(output_slices, dim=1)
        inputs = x.view(-1, x.shape[-1])
        for slot, tokens in self._groups:
            chosen = inputs[tokens].float()
            for output, a, b in zip(outputs, lora_a_stacked, lora_b_stacked, strict=True):
                inner = chosen @ a[slot, 0].float().T * scale
                output[tokens] += inner.to(output.dtype) @ b[slot, 0].to(output.dtype).T


def groups(slots: torch.Tensor) -> list[Group]:
    """Each slot's tokens, from each token's slot; -1 is of tokens without an adapter."""
    present = slots.unique().tolist()
    if len(present) == 1:
        return [(slot, slice(None)) for slot in present if slot >= 0]
    return [(slot, (slots == slot).nonzero()[:, 0]) for slot in present if slot >= 0]
