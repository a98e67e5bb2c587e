"""Searches a model for the neurons that hold a fact."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from weight_patchers.common_fact import CommonFact
from weight_patchers.kn.attribution import Asked, attributions
from weight_patchers.kn.facts import asked_in, contrast_facts
from weight_patchers.kn.hparams import KnHparams
from weight_patchers.kn.selection import counting, shared_by_prompts, without_common
from weight_patchers.model.layers import Projection, projection


@dataclass(frozen=True)
class Neuron:
    """An inner neuron of a layer's MLP, and its mean attribution over the prompts of a fact."""

    layer: int
    index: int
    attribution: float


@dataclass(frozen=True, eq=False)
class Held:
    """What holds a fact: `own` marks its neurons among those of all layers in a row, and
    `attribution` is the mean of each over the fact's prompts; both [neurons], on the CPU."""

    own: Tensor
    attribution: Tensor


@dataclass(eq=False)
class Search:
    """Finds neurons in one model, which is frozen and does not change meanwhile.

    The common facts that a fact is held against are looked at once, when they are needed.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    hparams: KnHparams
    targets: Sequence[Projection] = ()
    _contrast: list[tuple[CommonFact, Tensor]] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.targets = [projection(self.model, layer) for layer in self.hparams.layers]

    def held(self, asked: Sequence[Asked]) -> Held:
        """The neurons that the prompts of a fact share."""
        by_layer = attributions(self.model, self.targets, asked, self.hparams.steps)
        scores = torch.cat(list(by_layer.values()), dim=1)
        counts = counting(scores, self.hparams.threshold)
        return Held(shared_by_prompts(counts, self.hparams.shared), scores.mean(0))

    def without_common(self, held: Held, subject: str, others: Sequence[Tensor]) -> Held:
        """Without the neurons that too many of the other facts have: those whose masks are
        `others`, and common facts about other things than the subject."""
        contrast = [
            mask
            for fact, mask in self._contrasting()
            if fact.subject.casefold() not in subject.casefold()
        ]
        own = without_common(held.own, [*others, *contrast], self.hparams.common)
        return Held(own, held.attribution)

    def neurons(self, held: Held) -> list[Neuron]:
        """The neurons, those with the highest attribution first."""
        places = held.own.nonzero()[:, 0]
        order = places[held.attribution[places].argsort(descending=True)]
        return [self._neuron(int(place), float(held.attribution[place])) for place in order]

    def _neuron(self, place: int, attribution: float) -> Neuron:
        for target in self.targets:
            if place < target.d_in:
                return Neuron(target.layer, place, attribution)
            place -= target.d_in
        raise IndexError(place)

    def _contrasting(self) -> Sequence[tuple[CommonFact, Tensor]]:
        if self._contrast is None:
            facts = contrast_facts(self.hparams.contrast, self.hparams.seed)
            self._contrast = [
                (fact, self.held(asked_in(self.tokenizer, fact.prompts[:1], fact.answer)).own)
                for fact in facts
            ]
        return self._contrast


def fact_neurons(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    asked: Sequence[Asked],
    subject: str,
    hparams: KnHparams,
) -> list[Neuron]:
    """The neurons that hold one fact, as KN would change them, in a frozen model."""
    search = Search(model, tokenizer, hparams)
    return search.neurons(search.without_common(search.held(asked), subject, []))
