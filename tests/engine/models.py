"""Small random models of several architectures, as checkpoint folders."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file

from weight_patchers import Delta
from weight_patchers.delta_sum import sum_deltas

VOCABULARY, HIDDEN, INNER, LAYERS = 96, 64, 160, 2


def gpt2(folder: Path) -> Path:
    """With Conv1D weights, fused attention and tied embeddings."""
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=128,
        n_embd=HIDDEN,
        n_layer=LAYERS,
        n_head=2,
        bos_token_id=1,
        eos_token_id=2,
    )
    return _save(transformers.GPT2LMHeadModel, config, folder)


def llama(folder: Path) -> Path:
    """With separate q, k, v, gate and up, which vLLM fuses."""
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=128,
    )
    return _save(transformers.LlamaForCausalLM, config, folder)


def neox(folder: Path) -> Path:
    """Of an architecture that vLLM serves through its Transformers backend."""
    config = transformers.GPTNeoXConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        max_position_embeddings=128,
    )
    return _save(transformers.GPTNeoXForCausalLM, config, folder)


def merged(base: Path, deltas: Sequence[Delta], folder: Path) -> Path:
    """A copy of the checkpoint with the deltas in it, in float32."""
    folder.mkdir()
    for path in base.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    tensors = load_file(base / "model.safetensors")
    for name, change in sum_deltas(deltas).items():
        tensors[name] = change.added_to(tensors[name])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _save(
    build: Callable[..., transformers.PreTrainedModel],
    config: transformers.PretrainedConfig,
    folder: Path,
) -> Path:
    torch.manual_seed(0)
    config.initializer_range = 0.2
    build(config).half().save_pretrained(folder)
    return folder
