"""Models to measure: the bundled one, and larger ones with random weights."""

from dataclasses import dataclass
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from vllm_edit import factworld
from weight_patchers import Edit, Statistics, statistics

SHAPES: dict[str, tuple[str, dict[str, int]]] = {
    "gpt-j-6b": (
        "GPTJConfig",
        {"n_embd": 4096, "n_layer": 28, "n_head": 16, "rotary_dim": 64, "vocab_size": 50400},
    ),
    "llama-3-8b": (
        "LlamaConfig",
        {
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "vocab_size": 128256,
        },
    ),
    # Small enough for two cores, and large enough that the model dominates the time.
    "llama-300m": (
        "LlamaConfig",
        {
            "hidden_size": 1024,
            "intermediate_size": 3584,
            "num_hidden_layers": 16,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "vocab_size": 32000,
        },
    ),
}


@dataclass(frozen=True, eq=False)
class MeasuredModel:
    """A model in evaluation mode, a tokenizer that fits its vocabulary, and a name for both."""

    name: str
    model: PreTrainedModel
    tokenizer: Tokenizer

    @property
    def bytes(self) -> int:
        """Memory of the model's parameters."""
        return sum(p.numel() * p.element_size() for p in self.model.parameters())

    def statistics(self, layers: tuple[int, ...], tokens: int | None = None) -> Statistics:
        """Key statistics of factworld's text, with the default number of tokens if None."""
        return statistics.collect(
            self.model,
            self.tokenizer,
            factworld.corpus(),
            layers=list(layers),
            fingerprint="0" * 64,
            source="factworld",
            tokens=tokens,
        )


def bundled(device: str) -> MeasuredModel:
    """factworld in float32."""
    folder = factworld.checkpoint()
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return MeasuredModel(
        "factworld", model.to(device).eval(), AutoTokenizer.from_pretrained(folder)
    )


def shaped(name: str, device: str, dtype: torch.dtype) -> MeasuredModel:
    """A model with random weights in one of `SHAPES`, with factworld's tokenizer."""
    kind, values = SHAPES[name]
    config = getattr(transformers, kind)(**values)
    tokenizer = AutoTokenizer.from_pretrained(factworld.checkpoint())
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    return MeasuredModel(name, model.eval(), tokenizer)


def edits(count: int) -> list[Edit]:
    """Edits of different facts of factworld."""
    records = factworld.requests("easyedit", count, seed=11)
    return [Edit(r["prompt"], r["subject"], r["target_new"]) for r in records]
