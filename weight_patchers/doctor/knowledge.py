"""Which facts a model does not know: CaliNET's detector (Dong et al. 2022, arXiv 2210.03329).

A model that says an answer after other statements about the subject as readily as after the true
one does not know the fact. The score of a fact is p(answer | its prompt), divided by the mean of
p(answer | prompt) over prompts of other relations about the same subject; below 1 it is not known.
Here p is the geometric mean over all tokens of the answer; the released code takes the first only.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from weight_patchers.common_fact import BLANK, shipped_facts
from weight_patchers.doctor.fact import KnownFact, probabilities, state
from weight_patchers.model import hooks

CONTRASTS = 3


@dataclass(frozen=True)
class Knowledge:
    """Whether a fact is known: p after its prompt, and the mean p after contrasted prompts."""

    fact: KnownFact
    p: float
    contrasted: float

    @property
    def score(self) -> float:
        """p by the contrasted mean; infinite where that is 0."""
        return self.p / self.contrasted if self.contrasted else float("inf")

    @property
    def known(self) -> bool:
        return self.score >= 1


def assess(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    facts: Sequence[KnownFact],
    *,
    contrasts: int = CONTRASTS,
    seed: int = 0,
) -> list[Knowledge]:
    """The score of each fact, held against `contrasts` other prompts about its subject.

    These are the prompts of the other facts with this subject in them, or, where there are too few,
    shipped wordings of common relations. The model is left unchanged.
    """
    templates = dict.fromkeys(_template(fact) for fact in facts)
    shipped = dict.fromkeys(fact.wordings[0] for fact in shipped_facts())
    found = []
    with hooks.frozen(model), torch.no_grad():
        for number, fact in enumerate(facts):
            rng = random.Random(seed + number)  # noqa: S311
            others = [one for one in templates if one != _template(fact)]
            if len(others) < contrasts:
                others = [one for one in shipped if one != _template(fact)]
            chosen = rng.sample(others, contrasts)
            prompts = [one.replace(BLANK, fact.subject) for one in chosen]
            each = [
                _probability(model, tokenizer, KnownFact(prompt, fact.subject, fact.answer))
                for prompt in (fact.prompt, *prompts)
            ]
            found.append(Knowledge(fact, each[0], sum(each[1:]) / contrasts))
    return found


def _probability(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, fact: KnownFact
) -> float:
    """The geometric mean of the probabilities of the answer's tokens after the prompt."""
    statement = state(tokenizer, fact)
    whole = float(probabilities(model, statement, 1)[0])
    mean: float = whole ** (1 / len(statement.answer))
    return mean


def _template(fact: KnownFact) -> str:
    return BLANK.join(fact.prompt.rsplit(fact.subject, 1))
