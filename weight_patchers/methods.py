"""The weight methods by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar

from weight_patchers import calinet, fine_tuning, kn, rome, t_patcher
from weight_patchers.alphaedit import ALPHAEDIT, AlphaEditHparams
from weight_patchers.delta import Delta
from weight_patchers.emmet import EMMET, EmmetHparams
from weight_patchers.fine_tuning import BreadthFirstHparams, FineTuningHparams, breadth_first
from weight_patchers.job import Job
from weight_patchers.ke import KeEditor
from weight_patchers.memit import MEMIT, MemitHparams
from weight_patchers.mend import MendEditor
from weight_patchers.pmet import PMET, PmetHparams
from weight_patchers.spreading.compute import SpreadMethod
from weight_patchers.trained import compute as trained
from weight_patchers.trained.editor import TrainedEditor

T = TypeVar("T")


@dataclass(frozen=True)
class Patcher:
    """A method: the type of its hyperparameters, and its functions, which take what `Job` takes.

    Hyperparameters have `layers`, the decoder layers that are written, and `covariance`, whether
    key statistics of these layers are needed. `batch` says that several edits are solved
    together; else they are made one after another, each seeing those before it. `compute_each`
    gives the deltas of one `compute` call per edit, in less time. With
    `values`, the method uses the job's `value_cache`. With `live_set`, all its edits that are live
    have one delta, computed together and from the base alone, again with each that comes or goes;
    with `on_base`, each call's edits are computed on the base alone, whatever is live.
    With `editor`, edits are made by an editor of this type, trained for the model, which a job
    holds as `trained`.

    The model is left unchanged, also when an error is raised. Both functions raise a
    PatcherError when the model, the edits or the statistics do not allow the edit.
    """

    name: str
    hparams: type[Any]
    compute: Callable[..., Delta]
    batch: bool
    compute_each: Callable[..., list[Delta]] | None = None
    values: bool = False
    live_set: bool = False
    on_base: bool = False
    editor: type[TrainedEditor] | None = None

    @property
    def from_base(self) -> bool:
        """Whether edits are computed on the base alone, whatever is live."""
        return self.live_set or self.on_base


def _of_job(function: Callable[[Job], T]) -> Callable[..., T]:
    """The function with a job's fields as its arguments."""
    return lambda *args, **options: function(Job(*args, **options))


def _spreading(method: SpreadMethod, hparams: type[Any]) -> Patcher:
    compute, each = _of_job(method.compute), _of_job(method.compute_each)
    return Patcher(method.name, hparams, compute, batch=True, compute_each=each, values=True)


def _fine_tuning(name: str) -> Patcher:
    compute = _of_job(partial(fine_tuning.compute, name))
    return Patcher(name, FineTuningHparams, compute, batch=True)


def _trained(editor: type[TrainedEditor]) -> Patcher:
    return Patcher(
        editor.method,
        editor.hparams_type,
        _of_job(partial(trained.compute, editor)),
        batch=True,
        compute_each=_of_job(partial(trained.compute_each, editor)),
        on_base=True,
        editor=editor,
    )


METHODS: Mapping[str, Patcher] = MappingProxyType(
    {
        patcher.name: patcher
        for patcher in (
            Patcher(
                rome.METHOD,
                rome.RomeHparams,
                _of_job(rome.compute),
                batch=False,
                compute_each=_of_job(rome.compute_each),
            ),
            _spreading(MEMIT, MemitHparams),
            _spreading(PMET, PmetHparams),
            _spreading(EMMET, EmmetHparams),
            _spreading(ALPHAEDIT, AlphaEditHparams),
            _fine_tuning("ft-l"),
            _fine_tuning("ft-m"),
            Patcher(
                breadth_first.METHOD,
                BreadthFirstHparams,
                _of_job(breadth_first.compute),
                batch=True,
                live_set=True,
            ),
            Patcher(
                kn.METHOD,
                kn.KnHparams,
                _of_job(kn.compute),
                batch=True,
                compute_each=_of_job(kn.compute_each),
            ),
            Patcher(
                t_patcher.METHOD,
                t_patcher.TPatcherHparams,
                _of_job(t_patcher.compute),
                batch=True,
                on_base=True,
            ),
            Patcher(
                calinet.METHOD,
                calinet.CalinetHparams,
                _of_job(calinet.compute),
                batch=True,
                live_set=True,
            ),
            _trained(MendEditor),
            _trained(KeEditor),
        )
    }
)
