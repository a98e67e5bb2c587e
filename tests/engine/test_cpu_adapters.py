"""Adapters applied on CPU, against vLLM's own wrapper."""

from collections.abc import Sequence

import pytest
import torch
from vllm.lora.layers import LoRAMapping
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

from vllm_edit.engine.cpu_adapters import GroupedPunicaWrapper

RANK, INPUTS, OUTPUTS = 16, 24, (32, 8)
EMPTY = 3
"""The slot that vLLM's applies to tokens without an adapter."""


def applied(
    kind: type[PunicaWrapperCPU], adapters: Sequence[int], dtype: torch.dtype
) -> torch.Tensor:
    """What tokens with these adapters (0: none) come to; adapter n is in slot n - 1."""
    wrapper = kind(64, 16, "cpu")
    mapping = LoRAMapping(tuple(adapters), tuple(adapters), is_prefill=True)
    wrapper.update_metadata(mapping, [1, 2, 3, None], 4, 100)
    random = torch.Generator().manual_seed(0)
    a = [torch.randn(4, 1, RANK, INPUTS, generator=random, dtype=dtype) for _ in OUTPUTS]
    b = [torch.randn(4, 1, n, RANK, generator=random, dtype=dtype) for n in OUTPUTS]
    for weights in a:
        weights[EMPTY] = 0
    x = torch.randn(len(adapters), INPUTS, generator=random, dtype=dtype)
    y = torch.ones(len(adapters), sum(OUTPUTS), dtype=dtype)
    wrapper.add_lora_linear(y, x, tuple(a), tuple(b), 0.5, OUTPUTS)
    return y


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("adapters", [[0, 0, 1, 1, 3, 2, 2, 0], [2, 2, 2], [0, 0], [1]])
def test_tokens_get_what_vllms_own_gives_them(adapters: list[int], dtype: torch.dtype) -> None:
    ours = applied(GroupedPunicaWrapper, adapters, dtype)
    theirs = applied(PunicaWrapperCPU, adapters, dtype)
    torch.testing.assert_close(ours, theirs)


def test_tokens_without_an_adapter_are_left_alone() -> None:
    told = applied(GroupedPunicaWrapper, [0, 3, 0], torch.float32)
    assert (told[[0, 2]] == 1).all()
    assert (told[1] != 1).any()
