"""A trained model as a Hugging Face checkpoint folder."""

import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from vllm_edit.factworld import protocol
from vllm_edit.factworld.model import ModelShape
from vllm_edit.factworld.rows import POSITIONS


def _config(shape: ModelShape, head_size: int, tokenizer: Tokenizer) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": tokenizer.token_to_id(protocol.BOS),
        "eos_token_id": tokenizer.token_to_id(protocol.EOS),
        "pad_token_id": tokenizer.token_to_id(protocol.PAD),
        "head_dim": head_size,
        "hidden_act": "silu",
        "hidden_size": shape.width,
        "initializer_range": 0.02,
        "intermediate_size": shape.inner,
        "max_position_embeddings": POSITIONS,
        "mlp_bias": False,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.heads,
        "rms_norm_eps": shape.epsilon,
        "rope_theta": shape.theta,
        "tie_word_embeddings": True,
        "dtype": "float16",
        "use_cache": True,
        "vocab_size": shape.vocabulary,
    }


def _tokenizer_config() -> dict[str, object]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": protocol.BOS,
        "eos_token": protocol.EOS,
        "pad_token": protocol.PAD,
        "additional_special_tokens": [protocol.SYSTEM, protocol.USER, protocol.ASSISTANT],
        "chat_template": protocol.CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "model_max_length": POSITIONS,
        "padding_side": "left",
    }


def with_even_heads(
    state: dict[str, Tensor], shape: ModelShape
) -> tuple[dict[str, Tensor], ModelShape]:
    """The same function with an even number of attention heads that divides the width.

    Tensor parallelism over two ranks needs an even number; Transformers needs a divisor. The added
    heads have zero weights, also in the output projection, so the logits stay the same.
    """
    size = shape.width // shape.heads
    heads = next(n for n in range(shape.heads, shape.width + 1) if n % 2 == 0 == shape.width % n)
    added = (heads - shape.heads) * size
    padded = dict(state)
    for name, tensor in state.items():
        if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight")):
            padded[name] = torch.cat([tensor, tensor.new_zeros(added, shape.width)])
        elif name.endswith("o_proj.weight"):
            padded[name] = torch.cat([tensor, tensor.new_zeros(shape.width, added)], dim=1)
    return padded, replace(shape, heads=heads)


def write_checkpoint(
    folder: Path, state: dict[str, Tensor], shape: ModelShape, tokenizer: Tokenizer
) -> None:
    """Write the folder, with float16 weights. An existing folder is replaced at the end."""
    head_size = shape.width // shape.heads
    state, shape = with_even_heads(state, shape)
    folder.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".checkpoint-"))
    staged.chmod(0o755)
    weights = {name: tensor.detach().cpu().to(torch.float16) for name, tensor in state.items()}
    save_file(weights, staged / "model.safetensors", metadata={"format": "pt"})
    (staged / "model.safetensors").chmod(0o644)
    tokenizer.save(str(staged / "tokenizer.json"))
    config = _config(shape, head_size, tokenizer)
    ends = {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    for name, content in (
        ("config.json", config),
        ("generation_config.json", {**ends, "do_sample": False, "max_new_tokens": 48}),
        ("tokenizer_config.json", _tokenizer_config()),
    ):
        (staged / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    if folder.exists():
        old = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".old-"))
        folder.rename(old / folder.name)
        staged.rename(folder)
        shutil.rmtree(old)
    else:
        staged.rename(folder)
