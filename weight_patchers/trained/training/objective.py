"""The losses that an editor is trained with."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from weight_patchers.trained.training.recipe import Recipe

_SUCCESS = 0.9
_SHRINK = 0.8


class Objective(Protocol):
    """Makes one loss of the target's NLL and the divergence from what is to be kept."""

    def loss(self, nll: Tensor, kl: Tensor) -> Tensor:
        """What is minimised."""

    def after_step(self, kl: float) -> None:
        """Learn from a step's divergence."""

    def after_validation(self, success: float) -> None:
        """Learn from the share of validation edits that are told."""

    def state(self) -> dict[str, float]:
        """What `resume` takes."""

    def resume(self, state: dict[str, float]) -> None:
        """Go on from a state."""


@dataclass
class Weighted:
    """c NLL + KL (Mitchell et al. 2022, eq. 4)."""

    edit_weight: float

    def loss(self, nll: Tensor, kl: Tensor) -> Tensor:
        return self.edit_weight * nll + kl

    def after_step(self, kl: float) -> None:
        """Nothing to learn."""

    def after_validation(self, success: float) -> None:
        """Nothing to learn."""

    def state(self) -> dict[str, float]:
        return {}

    def resume(self, state: dict[str, float]) -> None:
        """Nothing to resume."""


@dataclass
class Constrained:
    """NLL + a (KL - m): the NLL is minimised under KL <= m (De Cao et al. 2021, section 3.2).

    The multiplier a >= 0 ascends with its own rate. The margin m shrinks by a fifth, down to
    `least_margin`, with each validation at which more than nine in ten edits are told.
    """

    margin: float
    least_margin: float
    rate: float
    multiplier: float = 1.0

    def loss(self, nll: Tensor, kl: Tensor) -> Tensor:
        return nll + self.multiplier * (kl - self.margin)

    def after_step(self, kl: float) -> None:
        self.multiplier = max(0.0, self.multiplier + self.rate * (kl - self.margin))

    def after_validation(self, success: float) -> None:
        if success > _SUCCESS:
            self.margin = max(self.least_margin, _SHRINK * self.margin)

    def state(self) -> dict[str, float]:
        return {"margin": self.margin, "multiplier": self.multiplier}

    def resume(self, state: dict[str, float]) -> None:
        self.margin, self.multiplier = state["margin"], state["multiplier"]


def objective_of(recipe: Recipe) -> Objective:
    """The objective that the recipe names, as training begins."""
    if recipe.loss == "weighted":
        return Weighted(recipe.edit_weight)
    return Constrained(recipe.margin, recipe.least_margin, recipe.multiplier_rate)
