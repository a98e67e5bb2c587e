"""Which neurons hold a fact: those that count in its prompts, and not in those of other facts.

Dai et al. 2022 (arXiv 2104.08696), section 3.3: neurons with a high attribution in many prompts of
the fact are left, others are dropped. The numbers of rounds and neurons are those of the released
code.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

_FEWEST, _MOST = 2, 5
_LEAST_PROMPTS = 3
_ROUNDS, _NUDGE = 6, 0.05


def counting(scores: Tensor, threshold: float) -> Tensor:
    """Where attributions [prompts, neurons] are at least `threshold` times the prompt's largest,
    and above 0."""
    largest = scores.amax(1, keepdim=True)
    return (scores >= threshold * largest) & (scores > 0)


def shared_by_prompts(counts: Tensor, share: float) -> Tensor:
    """The neurons, as a mask, that count in at least `share` of a fact's prompts, and in three.

    `counts` is a mask [prompts, neurons]. In up to six rounds the share moves by .05 until there
    are two to five. A fact of fewer than three prompts needs all of them. (In the paper the share
    moves for all facts of a relation together; here for each, so that a fact's neurons do not
    depend on others'.)
    """
    prompts = len(counts)
    in_prompts = counts.sum(0)
    found = torch.zeros_like(counts[0])
    for _ in range(_ROUNDS):
        # What a rounded share just misses counts.
        found = in_prompts >= max(share * prompts - 1e-6, min(_LEAST_PROMPTS, prompts))
        number = int(found.sum())
        if _FEWEST <= number <= _MOST:
            break
        share += _NUDGE if number > _MOST else -_NUDGE
    return found


def without_common(own: Tensor, others: Sequence[Tensor], most: float) -> Tensor:
    """A fact's neurons without those that more than the share `most` of the other facts have."""
    if not others:
        return own
    return own & (torch.stack(list(others)).sum(0) <= most * len(others))
