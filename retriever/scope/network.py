"""The cross-encoder: a frozen base model, low-rank adapters on its linear layers, and a head."""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from retriever.errors import EncoderUnavailableError
from retriever.scope.classifier_input import MASK, TURN, ClassifierInput

HIDDEN = 128
MAX_TOKENS = 160


class Adapted(nn.Module):
    """A frozen linear layer plus a trained product of two narrow matrices."""

    def __init__(self, linear: nn.Linear, rank: int) -> None:
        super().__init__()
        self.linear = linear
        self.down = nn.Parameter(torch.randn(rank, linear.in_features) / linear.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(linear.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(x) + (x @ self.down.T) @ self.up.T
        return out

    def merged(self) -> nn.Linear:
        """One linear layer that computes the same."""
        with torch.no_grad():
            self.linear.weight += self.up @ self.down
        return self.linear


class CrossEncoder(nn.Module):
    """Request and fact to one logit: above 0 where the fact concerns the request.

    Everything of the base is frozen except the embedding of token types, if it has one.
    """

    def __init__(self, base: str, rank: int) -> None:
        super().__init__()
        self.tokenizer, self.base = _load(base)
        self.fingerprint = fingerprint(self.base)
        self.base.requires_grad_(requires_grad=False)
        self.types = getattr(self.base.embeddings, "token_type_embeddings", None)
        if self.types is not None:
            self.types.requires_grad_(requires_grad=True)
        _adapt(self.base.encoder, rank)
        width = self.base.config.hidden_size
        self.head = nn.Sequential(
            nn.Linear(5 * width, HIDDEN), nn.GELU(), nn.Dropout(0.1), nn.Linear(HIDDEN, 1)
        )

    def trained(self) -> dict[str, nn.Parameter]:
        """The trained parameters by name: all that must be stored."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def merge(self) -> None:
        """Fold the adapters into the base: faster, and no longer trainable."""
        for parent in list(self.base.encoder.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, Adapted):
                    setattr(parent, name, child.merged())

    def tokenize(
        self, inputs: Sequence[ClassifierInput]
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """The base's inputs, and the masks [n, length] of the request's and the fact's tokens."""
        batch = self.tokenizer(
            [self._special(request) for request, _ in inputs],
            [self._special(fact) for _, fact in inputs],
            padding=True,
            truncation="longest_first",
            max_length=MAX_TOKENS,
            return_tensors="pt",
        )
        parts = [batch.sequence_ids(i) for i in range(len(inputs))]
        first, second = (
            torch.tensor([[part == which for part in row] for row in parts], dtype=torch.float32)
            for which in (0, 1)
        )
        return dict(batch), first, second

    def forward(self, inputs: dict[str, Tensor], request: Tensor, fact: Tensor) -> Tensor:
        """Logits [n]."""
        states = self.base(**inputs).last_hidden_state.float()
        u, v = _mean(states, request), _mean(states, fact)
        logits: Tensor = self.head(torch.cat([states[:, 0], u, v, (u - v).abs(), u * v], dim=1))
        return logits.squeeze(1)

    def _special(self, text: str) -> str:
        return text.replace(MASK, self.tokenizer.mask_token or "something").replace(
            TURN, f" {self.tokenizer.sep_token or '/'} "
        )


def fingerprint(base: nn.Module) -> str:
    """SHA-256 of a model's weights, whatever file they came from."""
    digest = hashlib.sha256()
    for name, weight in sorted(base.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().float().contiguous().numpy().data)
    return digest.hexdigest()


def _load(base: str) -> tuple[Any, Any]:
    try:
        tokenizer = AutoTokenizer.from_pretrained(base)
        model = AutoModel.from_pretrained(base, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise EncoderUnavailableError(
            f"Cannot load {base!r}, the base model of the scope classifier; give the folder of a "
            "Transformers encoder, or a hub name where the hub can be reached."
        ) from error
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return tokenizer, model


def _adapt(module: nn.Module, rank: int) -> None:
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Linear):
            setattr(module, name, Adapted(child, rank))
        else:
            _adapt(child, rank)


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    weights = mask.to(states.device).unsqueeze(2)
    return (states * weights).sum(1) / weights.sum(1).clamp(min=1)
