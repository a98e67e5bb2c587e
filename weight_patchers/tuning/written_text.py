"""A text for key statistics where the user has none: what the model itself writes about facts."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from weight_patchers.common_fact import CommonFact
from weight_patchers.continuation import continue_with
from weight_patchers.model.tokenization import encode
from weight_patchers.tuning.asking import padded_left, padding

_ROWS, _LENGTH, _TOP_K = 32, 96, 50


def written_text(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    facts: Sequence[CommonFact],
    tokens: int,
    seed: int,
) -> Iterator[str]:
    """Paragraphs of about `tokens` tokens in all: each a fact's sentence, and what follows it.

    What follows is sampled from the model's 50 likeliest tokens; the same seed gives the same text.
    """
    # Typed as a tensor or a module by PyTorch.
    generate: Any = model.generate
    count = 0
    for first in range(0, len(facts), _ROWS):
        starts = [f"{continue_with(f.prompts[0], f.answer)}." for f in facts[first : first + _ROWS]]
        tokens_of = [encode(tokenizer, start)[0] for start in starts]
        batch = padded_left(tokenizer, tokens_of, model.device)
        with torch.random.fork_rng():
            torch.manual_seed(seed + first)
            written = generate(
                input_ids=batch.ids,
                attention_mask=batch.mask,
                min_new_tokens=_LENGTH,
                max_new_tokens=_LENGTH,
                do_sample=True,
                temperature=1.0,
                top_p=1.0,
                top_k=_TOP_K,
                pad_token_id=padding(tokenizer),
            )
        rows = written[:, batch.ids.shape[1] :]
        texts = tokenizer.batch_decode(rows, skip_special_tokens=True)
        for start, text in zip(starts, texts, strict=True):
            paragraph = " ".join(f"{start} {text}".split())
            count += len(tokenizer(paragraph)["input_ids"])
            yield paragraph
        if count >= tokens:
            return
