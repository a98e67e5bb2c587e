"""A model as Transformers loads it: with gradients to be had, apart from the one that serves."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from vllm_edit.domain.errors import Unavailable


def load(
    folder: Path, device: str, dtype: str = "float32"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The checkpoint's model, in evaluation mode, and its tokenizer.

    `dtype` names one of PyTorch's. Raises Unavailable when the folder has no causal language
    model or no tokenizer that Transformers can load, or the device is not there.
    """
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise Unavailable("There is no CUDA device here: name the device cpu, or none.")
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
        loaded: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise Unavailable(f"Transformers cannot load {folder}: {error}") from error
    model: PreTrainedModel = loaded.to(device).eval()
    return model, tokenizer
