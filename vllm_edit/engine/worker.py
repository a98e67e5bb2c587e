"""The worker-side RPC methods, and the vLLM general plugin that installs them.

vLLM loads general plugins in every process it starts. This one gives its workers three methods
for ``collective_rpc`` to call, under names of our own; it replaces nothing, and leaves
``--worker-extension-cls`` to the user.
"""

import hashlib
import logging
from collections.abc import Callable
from typing import Any

import torch

from vllm_edit.engine.served import ServedWeights
from vllm_edit.errors import EditError

logger = logging.getLogger(__name__)


def edit_stage(worker: Any, number: int, data: bytes) -> str | None:
    """Build the tensors of swap ``number`` on this rank; returns why it could not, or None."""
    return _fault(lambda: _served(worker).stage(number, data))


def edit_commit(worker: Any, number: int) -> str | None:
    """Serve the tensors staged under ``number`` on this rank; returns why it could not, or None."""
    return _fault(lambda: _served(worker).commit(number))


def edit_digests(worker: Any) -> dict[str, str]:
    """SHA-256 of each linear layer's weights as this rank's kernels apply them.

    vLLM packs weights away on CPU and its own checksums then cover empty tensors; this one
    reads a layer by its effect on the identity matrix.
    """
    digests = {}
    for name, layer in worker.model_runner.get_model().named_modules():
        width = getattr(layer, "input_size_per_partition", None)
        if width is None or not hasattr(layer, "quant_method"):
            continue
        reference = next(worker.model_runner.get_model().parameters())
        identity = torch.eye(width, dtype=worker.model_runner.dtype, device=reference.device)
        with torch.inference_mode():
            effect = layer.quant_method.apply(layer, identity, bias=None)
        data = effect.contiguous().cpu().view(torch.uint8).numpy().tobytes()
        digests[f"rank{worker.rank}:{name}"] = hashlib.sha256(data).hexdigest()
    return digests


def _fault(action: Callable[[], None]) -> str | None:
    """What went wrong, as data.

    An error raised here would reach the front end from the first rank only, and vLLM would take
    the other ranks' replies for those to the next call.
    """
    try:
        action()
    except EditError as error:
        return error.message
    except Exception as error:  # nothing may be raised, see above
        logger.exception("A swap failed on this rank.")
        return f"{type(error).__name__}: {error}"
    return None


def _served(worker: Any) -> ServedWeights:
    served: ServedWeights | None = getattr(worker, "edit_weights", None)
    if served is None:
        served = worker.edit_weights = ServedWeights(worker.model_runner)
    return served


def install() -> None:
    """Entry point ``vllm.general_plugins``: add the methods to vLLM's workers, once a process."""
    from vllm.v1.worker.worker_base import WorkerBase

    for method in (edit_stage, edit_commit, edit_digests):
        present = getattr(WorkerBase, method.__name__, method)
        if present is not method:
            raise RuntimeError(f"vLLM's workers already have a method {method.__name__}.")
        setattr(WorkerBase, method.__name__, method)
