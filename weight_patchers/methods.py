"""The weight methods by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

from weight_patchers import alphaedit, emmet, memit, pmet, rome
from weight_patchers.delta import Delta
from weight_patchers.fine_tuning import FineTuningHparams, compute


@dataclass(frozen=True)
class Patcher:
    """A method: the type of its hyperparameters and its `compute`.

    Hyperparameters have `layers`, the decoder layers that are written, and `covariance`, whether
    key statistics of these layers are needed. `batch` says that several edits are solved
    together; else they are made one after another, each seeing those before it. `compute_each`
    gives the deltas that as many calls of `compute` with one edit would, in less time. With
    `values`, `compute` takes the argument `known` of `spread`.
    """

    name: str
    hparams: type[Any]
    compute: Callable[..., Delta]
    batch: bool
    compute_each: Callable[..., list[Delta]] | None = None
    values: bool = False


def _locating(method: Any, hparams: type[Any], batch: bool = True) -> Patcher:
    return Patcher(method.METHOD, hparams, method.compute, batch, method.compute_each, values=batch)


METHODS: Mapping[str, Patcher] = MappingProxyType(
    {
        method.name: method
        for method in (
            _locating(rome, rome.RomeHparams, batch=False),
            _locating(memit, memit.MemitHparams),
            _locating(pmet, pmet.PmetHparams),
            _locating(emmet, emmet.EmmetHparams),
            _locating(alphaedit, alphaedit.AlphaEditHparams),
            Patcher("ft-l", FineTuningHparams, partial(compute, "ft-l"), batch=True),
            Patcher("ft-m", FineTuningHparams, partial(compute, "ft-m"), batch=True),
        )
    }
)
