"""Loads a checkpoint with Transformers, for work outside the serving engine."""

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

    `dtype` is the name of a PyTorch dtype. Raises Unavailable if Transformers cannot load a causal
    language model and a tokenizer from the folder, or if the device is missing.
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
