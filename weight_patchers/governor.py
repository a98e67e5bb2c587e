"""The governor: checks the effect of all edits together on the base, not only of the last one.

Edits add up: the edited matrices grow until the model's answers become useless
(Gupta et al. 2024, arXiv 2401.07453; Yang et al. 2024, arXiv 2402.09656).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from weight_patchers.delta import Delta
from weight_patchers.delta_sum import sum_deltas
from weight_patchers.errors import GovernorRefused, InvalidHyperparameters

GOVERNOR = "governor"
"""The name of the shipped bounds for `weight_patchers.hyperparameters.find`."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """How far all edits together may move a model; null for no bound.

    Raises InvalidHyperparameters when a bound is not above 0, or a warning's bound is above the
    refusal's.
    """

    norm_warn: float | None = None
    """Relative norm of the change of any one matrix, ||W' - W||_F / ||W||_F, to warn above."""
    norm_refuse: float | None = None
    """The same, to refuse an edit above."""
    drift_warn: float | None = None
    """Mean KL(base || edited) of the next token after the control prompts, in nats, to warn
    above."""
    drift_refuse: float | None = None
    """The same, to refuse an edit above."""

    def __post_init__(self) -> None:
        for name, bound in vars(self).items():
            if bound is not None and not 0 < bound < math.inf:
                raise InvalidHyperparameters(f"{name} is {bound!r}: it must be above 0, or null")
        for kind in ("norm", "drift"):
            warn, refuse = getattr(self, f"{kind}_warn"), getattr(self, f"{kind}_refuse")
            if warn is not None and refuse is not None and warn > refuse:
                raise InvalidHyperparameters(
                    f"{kind}_warn is {warn:g}: it must be at most {kind}_refuse, {refuse:g}"
                )


@dataclass(frozen=True)
class Verdict:
    """The measures of all edits in effect together, and the warnings they cause."""

    relative_norm: Mapping[str, float]
    drift: Mapping[str, float]
    warnings: tuple[str, ...]

    def diagnostics(self) -> dict[str, Any]:
        """The verdict as JSON values, for a delta's diagnostics."""
        return {
            "relative_norm": dict(self.relative_norm),
            "drift": dict(self.drift),
            "warnings": list(self.warnings),
        }


def judge(
    bounds: Bounds, relative_norm: Mapping[str, float], drift: Mapping[str, float]
) -> Verdict:
    """Check the effect of all edits together, the new one included, against the bounds.

    `relative_norm` comes from `relative_norms`, `drift` from `Controls.drift` with controls that
    watched the base. NaN exceeds every bound. Raises GovernorRefused when a figure exceeds a bound
    for refusal.
    """
    warnings = []
    for kind, figure, sentence in _figures(relative_norm, drift):
        warn, refuse = getattr(bounds, f"{kind}_warn"), getattr(bounds, f"{kind}_refuse")
        if _passes(figure, refuse):
            raise GovernorRefused(
                f"with what is new, {sentence}, and {kind}_refuse is {refuse:g}: take edits back, "
                "use another method or fewer edits at once, or raise that bound"
            )
        if _passes(figure, warn):
            end = "" if refuse is None else f" (edits are refused above {refuse:g})"
            warnings.append(
                f"{sentence}, and {kind}_warn is {warn:g}: see whether other answers suffer{end}"
            )
    return Verdict(relative_norm, drift, tuple(warnings))


def relative_norms(deltas: Sequence[Delta], base: Mapping[str, Tensor]) -> dict[str, float]:
    """||sum of the changes||_F / ||W||_F of every matrix that one of the deltas writes.

    `base` holds the unedited W by the parameter's name, in either orientation.
    """
    return {
        name: float(change.norm() / base[name].norm().cpu())
        for name, change in sum_deltas(deltas).items()
    }


def _figures(
    relative_norm: Mapping[str, float], drift: Mapping[str, float]
) -> Iterator[tuple[str, float, str]]:
    """For each bounded measure: its kind, its value, and a sentence with both."""
    if relative_norm:
        name, norm = max(relative_norm.items(), key=lambda item: item[1])
        yield "norm", norm, f"all edits together change {name} by {norm:.3g} times its norm"
    mean = drift["mean"]
    yield "drift", mean, f"all edits together drift {mean:.3g} nats on the control prompts"


def _passes(figure: float, bound: float | None) -> bool:
    return bound is not None and not figure <= bound
