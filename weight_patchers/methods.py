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
class Method:
    """A method: the type of its hyperparameters and its `compute`.

    Hyperparameters have `layers`, the decoder layers that are written, and `covariance`, whether
    key statistics of these layers are needed. `batch` says that several edits are solved
    together; else they are made one after another, each seeing those before it.
    """

    name: str
    hparams: type[Any]
    compute: Callable[..., Delta]
    batch: bool


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        method.name: method
        for method in (
            Method(rome.METHOD, rome.RomeHparams, rome.compute, batch=False),
            Method(memit.METHOD, memit.MemitHparams, memit.compute, batch=True),
            Method(pmet.METHOD, pmet.PmetHparams, pmet.compute, batch=True),
            Method(emmet.METHOD, emmet.EmmetHparams, emmet.compute, batch=True),
            Method(alphaedit.METHOD, alphaedit.AlphaEditHparams, alphaedit.compute, batch=True),
            Method("ft-l", FineTuningHparams, partial(compute, "ft-l"), batch=True),
            Method("ft-m", FineTuningHparams, partial(compute, "ft-m"), batch=True),
        )
    }
)
