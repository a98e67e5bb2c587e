"""The worker-side RPC methods, and the vLLM general plugin that installs them.

vLLM loads general plugins in every process it starts. This one gives its workers methods for
``collective_rpc`` to call, under names of our own, and leaves ``--worker-extension-cls`` to the
user. It replaces how adapters are applied on CPU, and with --edit-spare-units it reserves inner
units in each model that is loaded.

The steps of a swap are called in this order, all with its number; each answers a ``StepReply``.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch

from vllm_edit.domain.errors import EditError
from vllm_edit.engine.extra_units import spare_count, units_in
from vllm_edit.engine.replacement import digest
from vllm_edit.engine.step_reply import StepReply
from vllm_edit.engine.worker_weights import ServedWeights
from vllm_edit.vllm_interface.layers import is_linear
from vllm_edit.vllm_interface.workers import add_methods, after_loading, use_on_cpu

logger = logging.getLogger(__name__)


def edit_receive(worker: Any, number: int, data: bytes) -> dict[str, Any]:
    """Take a part of what ``payload.pack`` gave, but for the last."""
    return _reply("edit_receive", number, lambda: _served(worker).receive(number, data))


def edit_stage(
    worker: Any, number: int, data: bytes, names: Sequence[str], mlps: Sequence[str] = ()
) -> dict[str, Any]:
    """Take the last part and build new weights, while serving goes on.

    They are those of the parameters of these names, and of the extra units of these MLPs.
    """

    def stage() -> tuple[bool, Sequence[str]]:
        _served(worker).receive(number, data)
        _served(worker).stage(number, names, mlps)
        return _served(worker).built(number)

    return _reply("edit_stage", number, stage)


def edit_built(worker: Any, number: int) -> dict[str, Any]:
    """Whether they are built."""
    return _reply("edit_built", number, lambda: _served(worker).built(number))


def edit_commit(worker: Any, number: int) -> dict[str, Any]:
    """Serve them; the engine is paused."""
    return _reply("edit_commit", number, lambda: _served(worker).commit(number))


def edit_restore(worker: Any, number: int) -> dict[str, Any]:
    """Serve what was served before, verified by checksum; the engine is paused."""
    return _reply("edit_restore", number, lambda: _served(worker).restore(number))


def edit_finish(worker: Any, number: int, live: Sequence[str]) -> dict[str, Any]:
    """Drop what is needed no more; these parameters are not pristine from now on."""
    return _reply("edit_finish", number, lambda: _served(worker).finish(number, live))


def edit_digests(worker: Any) -> dict[str, str]:
    """SHA-256 of each linear layer's weight as this rank's kernels apply it.

    And of the extra units of each MLP that has some. vLLM packs weights away on CPU and its own
    checksums then cover empty tensors.
    """
    model = worker.model_runner.get_model()
    with torch.no_grad():
        found = {name: digest(la) for name, la in model.named_modules() if is_linear(la)}
    found |= {f"{name} (extra units)": units.digest() for name, units in units_in(model).items()}
    return {f"rank{worker.rank}:{name}": value for name, value in found.items()}


def edit_spare_units(worker: Any) -> dict[str, int]:
    """How many inner units each MLP of this rank has for edits, those in use among them."""
    model = worker.model_runner.get_model()
    return {name: units.count for name, units in units_in(model).items()}


METHODS = (
    edit_receive,
    edit_stage,
    edit_built,
    edit_commit,
    edit_restore,
    edit_finish,
    edit_digests,
    edit_spare_units,
)


def _reply(step: str, number: int, action: Callable[[], Any]) -> dict[str, Any]:
    """What came of a step, with what went wrong as data.

    An error raised here would reach the front end from the first rank only, and vLLM would take
    the other ranks' replies for those to the next call.
    """
    try:
        with torch.no_grad():
            found = action()
        reply = StepReply(step, number) if found is None else StepReply(step, number, None, *found)
    except EditError as error:
        reply = StepReply(step, number, error.message)
    except Exception as error:  # nothing may be raised, see above
        logger.exception("A swap failed on this rank.")
        reply = StepReply(step, number, f"{type(error).__name__}: {error}")
    return reply.to_wire()


def _served(worker: Any) -> ServedWeights:
    served: ServedWeights | None = getattr(worker, "edit_weights", None)
    if served is None:
        served = worker.edit_weights = ServedWeights(worker.model_runner)
    return served


def _reserve(worker: Any) -> None:
    # Imported only now: it takes seconds, and most servers have no spare units.
    from vllm_edit.engine.spare_units import reserve

    reserve(worker)


def install() -> None:
    """Entry point ``vllm.general_plugins``: add the methods to vLLM's workers, once a process."""
    add_methods(METHODS)
    if spare_count():
        after_loading(_reserve)
    # Imported only now: it imports vLLM.
    from vllm_edit.engine.cpu_adapters import GroupedPunicaWrapper

    use_on_cpu(f"{GroupedPunicaWrapper.__module__}.{GroupedPunicaWrapper.__name__}")
