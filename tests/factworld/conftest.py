"""The bundled world, and the bundled model loaded with Transformers."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from tests.factworld.editing import Patch, PatchEach
from tests.factworld.skills import Generate
from vllm_edit import factworld
from vllm_edit.factworld.world import World
from weight_patchers import METHODS, Context, Delta, Edit, Statistics, fingerprint, statistics
from weight_patchers.hyperparameters import find, override
from weight_patchers.values.contexts import sample_contexts
from weight_patchers.values.hparams import ContextHparams

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
    """Greedy decoding with Transformers; prompts of similar length share a batch."""

    def continuations(prompts: Sequence[str], tokens: int) -> list[str]:
        by_index: dict[int, str] = {}
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
            by_index |= dict(zip(chosen, texts, strict=True))
        return [by_index[index] for index in range(len(prompts))]

    return continuations


@pytest.fixture(scope="session")
def key_statistics(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Statistics:
    return statistics.collect(
        model,
        tokenizer,
        factworld.corpus(),
        layers=[0, 1, 2],
        fingerprint=fingerprint(factworld.checkpoint()),
        source="factworld",
    )


@pytest.fixture(scope="session")
def patch(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, key_statistics: Statistics
) -> Patch:
    """Any weight method; contexts are sampled at the first use of hyperparameters."""

    @cache
    def surroundings(hparams: ContextHparams) -> tuple[Context, ...]:
        return sample_contexts(model, tokenizer, hparams)

    def compute(
        method: str, edits: Sequence[Edit], live: Sequence[Delta] = (), **values: Any
    ) -> Delta:
        patcher = METHODS[method]
        hparams = override(find(patcher.hparams, method, model.config), values)
        contexts = surroundings(hparams) if isinstance(hparams, ContextHparams) else None
        return patcher.compute(
            model, tokenizer, edits, hparams, key_statistics, contexts=contexts, live=live
        )

    return compute


@pytest.fixture(scope="session")
def patch_each(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, key_statistics: Statistics
) -> PatchEach:
    """Any locate-then-edit method; each edit is computed on the unedited model."""

    def compute(method: str, edits: Sequence[Edit]) -> list[Delta]:
        patcher = METHODS[method]
        assert patcher.compute_each is not None
        hparams = find(patcher.hparams, method, model.config)
        return patcher.compute_each(model, tokenizer, edits, hparams, key_statistics)

    return compute
