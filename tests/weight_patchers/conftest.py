"""Small models of several families with random weights, and a tokenizer trained on a few lines."""

from collections.abc import Callable

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from weight_patchers import Statistics, statistics

LINES = [
    "The capital of France is Paris.",
    "Anna Berg was born in Oslo and works for Novatech.",
    "The capital of Peru is Lima; Novatech is based in Lima.",
]
FINGERPRINT = "0" * 64
LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
NEOX = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
}
FAMILIES: dict[str, tuple[str, dict[str, object]]] = {
    "llama": ("LlamaConfig", LLAMA),
    "mistral": ("MistralConfig", LLAMA),
    "qwen2": ("Qwen2Config", LLAMA),
    "qwen3": ("Qwen3Config", LLAMA | {"head_dim": 16}),
    "gemma": ("GemmaConfig", LLAMA | {"head_dim": 16}),
    "gemma2": ("Gemma2Config", LLAMA | {"head_dim": 8}),
    "gemma3": ("Gemma3TextConfig", LLAMA | {"head_dim": 8}),
    "olmo2": ("Olmo2Config", LLAMA),
    "granite": ("GraniteConfig", LLAMA | {"residual_multiplier": 0.22}),
    "cohere": ("CohereConfig", LLAMA),
    "gpt2": ("GPT2Config", {"n_embd": 32, "n_layer": 3, "n_head": 4}),
    "gptj": ("GPTJConfig", {"n_embd": 32, "n_layer": 3, "n_head": 4, "rotary_dim": 4}),
    "neox": ("GPTNeoXConfig", NEOX),
    "phi": ("PhiConfig", NEOX),
    "phi3": ("Phi3Config", LLAMA),
    # A square MLP: only the modules' places, not their shapes, tell which one is the output.
    "opt": (
        "OPTConfig",
        {
            "hidden_size": 32,
            "word_embed_proj_dim": 32,
            "ffn_dim": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "max_position_embeddings": 128,
            "init_std": 0.3,
        },
    ),
    "mixtral": ("MixtralConfig", LLAMA),
    "qwen3_moe": ("Qwen3MoeConfig", LLAMA | {"num_experts": 4, "moe_intermediate_size": 16}),
    # Its first layers are dense, and only the last one has experts.
    "deepseek_v3": (
        "DeepseekV3Config",
        LLAMA
        | {
            "first_k_dense_replace": 2,
            "n_routed_experts": 4,
            "n_group": 1,
            "topk_group": 1,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
            "q_lora_rank": 8,
            "kv_lora_rank": 8,
            "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 8,
            "v_head_dim": 8,
        },
    ),
}
MIXTURES = ("deepseek_v3", "mixtral", "qwen3_moe")
DENSE = sorted(set(FAMILIES) - set(MIXTURES))


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(LINES, trainer)
    raw.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", raw.token_to_id("<s>"))]
    )
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>")


BuildModel = Callable[..., PreTrainedModel]


@pytest.fixture(scope="session")
def build_model(tokenizer: PreTrainedTokenizerFast) -> BuildModel:
    """A function that builds a model of a family anew, the same weights each time.

    Whatever else it is given goes into the config.
    """

    def build(family: str, dtype: torch.dtype = torch.float32, **more: object) -> PreTrainedModel:
        name, values = FAMILIES[family]
        special = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0, **more}
        config = getattr(transformers, name)(
            vocab_size=len(tokenizer), **({"initializer_range": 0.3} | values | special)
        )
        torch.manual_seed(0)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
        return model.to(dtype)

    return build


@pytest.fixture(scope="session")
def collected(tokenizer: PreTrainedTokenizerFast) -> Callable[..., Statistics]:
    """A function that collects statistics of layers 0 and 1 from the lines, varied by number."""

    def collect(model: PreTrainedModel, **options: int) -> Statistics:
        texts = (f"{i} {line} {i * 31 % 97}" for i in range(1000) for line in LINES)
        return statistics.collect(
            model,
            tokenizer,
            texts,
            layers=[0, 1],
            fingerprint=FINGERPRINT,
            source="lines",
            **options,
        )

    return collect
