"""The bundled world and the bundled model, loaded as anybody would load it."""

from collections.abc import Sequence

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from vllm_edit import factworld
from vllm_edit.factworld.skills import Generate
from vllm_edit.factworld.world import World

BATCH = 64


@pytest.fixture(scope="session")
def world() -> World:
    return factworld.build_world()


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(factworld.checkpoint())


@pytest.fixture(scope="session")
def model() -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(factworld.checkpoint(), dtype=torch.float32).eval()


@pytest.fixture(scope="session")
def generate(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Generate:
    """Greedy decoding with Transformers; prompts of like length share a batch."""

    def continuations(prompts: Sequence[str], tokens: int) -> list[str]:
        found: dict[int, str] = {}
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            batch = tokenizer(
                [prompts[index] for index in chosen],
                return_tensors="pt",
                padding=True,
                return_token_type_ids=False,
            )
            with torch.no_grad():
                output = model.generate(**batch, max_new_tokens=tokens, do_sample=False)
            new = output[:, batch["input_ids"].shape[1] :]
            texts = tokenizer.batch_decode(new, skip_special_tokens=True)
            found |= dict(zip(chosen, texts, strict=True))
        return [found[index] for index in range(len(prompts))]

    return continuations
