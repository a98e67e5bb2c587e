"""Drift: how far edits change the model's answers about everything else."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from weight_patchers.model.batch import Batch, pad
from weight_patchers.model.suffix import logits_at
from weight_patchers.model.tokenization import encode

PROMPTS = (
    "The weather this morning was",
    "She opened the door and saw",
    "To make a good soup, first",
    "The committee decided that the",
    "In the early years of the century,",
    "He picked up the phone and",
    "The most important part of the plan is",
    "Water boils at a temperature of",
    "The train was late because",
    "Once upon a time there was a",
    "The results of the experiment show",
    "Before going to bed, they always",
    "The price of bread has",
    "A triangle has three",
    "Thank you very much for your",
    "The old house at the end of the street",
    "My favourite season of the year is",
    "The company announced on Monday that",
    "If you want to learn a language, you",
    "The children played in the",
    "According to the report, the number of",
    "It took them three days to",
    "The sun rises in the",
    "We would like to inform you that",
)
"""The default prompts: about nothing that anybody would edit."""


@dataclass(frozen=True, eq=False)
class Controls:
    """Next-token log-probabilities after the control prompts, `before` [prompts, vocabulary]."""

    batch: Batch
    before: Tensor

    @classmethod
    def watch(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Sequence[str] | None = None,
    ) -> "Controls":
        """Record the model's next-token distributions after `prompts`, by default `PROMPTS`."""
        texts = PROMPTS if prompts is None else prompts
        batch = pad([encode(tokenizer, text)[0] for text in texts], model.device)
        return cls(batch, _next_token_scores(model, batch))

    def drift(self, model: PreTrainedModel) -> dict[str, float]:
        """KL(before || now) of the next token, in nats: `mean` and `max` over the prompts."""
        now = _next_token_scores(model, self.batch)
        each = F.kl_div(now, self.before, log_target=True, reduction="none").sum(-1).clamp_min(0)
        return {"mean": float(each.mean()), "max": float(each.max())}


def _next_token_scores(model: PreTrainedModel, batch: Batch) -> Tensor:
    rows = torch.arange(len(batch.ids), device=batch.ids.device)
    with torch.no_grad():
        logits = logits_at(model, batch, rows, batch.mask.sum(1) - 1)
    return logits.float().log_softmax(-1)
