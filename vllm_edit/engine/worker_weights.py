"""The edited weights of one worker: pristine base plus the live updates."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from typing import Any

import torch

from vllm_edit.domain.errors import SwapFailed
from vllm_edit.engine.checkpoint import Checkpoint, resolve
from vllm_edit.engine.device import beside_serving, wait_for
from vllm_edit.engine.exchange import Exchange
from vllm_edit.engine.extra_units import ExtraUnits, UnitsExchange, units_in
from vllm_edit.engine.payload import unpack
from vllm_edit.engine.placement import Placement, place, with_siblings
from vllm_edit.engine.replacement import Replacement, assemble, columns
from vllm_edit.vllm_interface.layers import input_width
from weight_patchers.delta_sum import DeltaSum

_GRACE = 0.002
"""Seconds that the engine's steps may wait for a swap that is built quickly."""

_SAMPLE = 16
"""Columns of a weight that are compared with the checkpoint's."""


class _Swap:
    """One swap on its way: what was received, and what is built of it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.data = bytearray()
        self.placements: Sequence[Placement] = ()
        self.units: Sequence[ExtraUnits] = ()
        self.building: Future[list[Exchange]] | None = None
        self.built: Sequence[Exchange] | None = None


class ServedWeights:
    """Builds and exchanges the weights that one vLLM worker serves.

    W = cast(pristine + Σ live updates), summed in float32 and cast once, so what is served
    depends on the set of live edits and not on the way to it. New weights are built in a thread
    while the worker goes on serving, and ``commit`` only puts them in place. What they replace
    is kept until ``finish``, and ``restore`` puts it back. The extra units of all live edits are
    exchanged with them.
    """

    def __init__(self, model_runner: Any) -> None:
        config = model_runner.vllm_config.model_config
        if config.quantization is not None:
            raise SwapFailed(
                f"The served base is quantised ({config.quantization}); weight edits need an "
                "unquantised one. Use a memory method such as ike."
            )
        self._model = model_runner.get_model()
        self._device: torch.device = model_runner.device
        self._dtype: torch.dtype = config.dtype
        self._checkpoint = Checkpoint(resolve(config.model, config.revision))
        self._pristine: dict[str, torch.Tensor] = {}
        self._placed: dict[frozenset[str], Sequence[Placement]] = {}
        self._live: frozenset[str] = frozenset()
        self._swap: _Swap | None = None
        self._thread = ThreadPoolExecutor(1, "vllm-edit-stage")

    def receive(self, number: int, data: bytes) -> None:
        """Take a part of swap ``number``; the first begins it."""
        if self._swap is None or self._swap.number != number:
            self._swap = _Swap(number)
        self._swap.data += data

    def stage(self, number: int, names: Sequence[str], mlps: Sequence[str] = ()) -> None:
        """Begin to build the weights of swap ``number``.

        It changes these parameters, and the extra units of these MLPs.

        Raises:
            SwapFailed: this rank cannot serve an edit of one of them.
            Unavailable: the base has no such tensor.
        """
        swap = self._known(number)
        swap.placements = self._place(frozenset(names)) if names else ()
        spare = units_in(self._model)
        swap.units = [spare[mlp] for mlp in mlps if mlp in spare]
        samples = {p.name: self._sample(p) for p in swap.placements if self._is_untouched(p)}
        swap.building = self._thread.submit(self._build, swap, samples)

    def built(self, number: int, wait: float = _GRACE) -> tuple[bool, Sequence[str]]:
        """Whether swap ``number`` can be committed, and the parameters and MLPs that it has here.

        Raises:
            SwapFailed: a delta does not fit the base or makes values that are not finite.
        """
        swap = self._known(number)
        if swap.building is None:
            raise SwapFailed(f"Swap {number} was not staged on this worker.")
        try:
            swap.built = swap.building.result(wait)
        except NotYet:
            return False, ()
        names = {name for p in swap.placements for name in p.parameters}
        return True, sorted(names | {units.mlp for units in swap.units})

    def commit(self, number: int) -> None:
        """Serve what was built; raises SwapFailed if that was another swap."""
        swap = self._known(number)
        if swap.built is None:
            raise SwapFailed(f"Swap {number} was not built on this worker.")
        for replacement in swap.built:
            replacement.exchange()
        wait_for(self._device)

    def restore(self, number: int) -> None:
        """Serve what was served before swap ``number``, whatever became of it here.

        Raises SwapFailed when the weights are not, by checksum, what they were.
        """
        swap = self._swap
        if swap is not None and swap.number == number:
            for replacement in swap.built or ():
                replacement.undo()
        wait_for(self._device)

    def finish(self, number: int, live: Sequence[str]) -> None:
        """Drop what swap ``number`` keeps; ``live`` parameters are not pristine from now on."""
        if self._swap is not None and self._swap.number == number:
            self._swap = None
        self._live = frozenset(live)
        self._placed = {names: found for names, found in self._placed.items() if names & self._live}
        placements = [p for found in self._placed.values() for p in found]
        kept = {n for p in placements if not self._is_untouched(p) for n in p.parameters}
        self._pristine = {n: tensor for n, tensor in self._pristine.items() if n in kept}

    def _known(self, number: int) -> _Swap:
        if self._swap is None or self._swap.number != number:
            raise SwapFailed(f"Swap {number} was not begun on this worker.")
        return self._swap

    def _place(self, names: frozenset[str]) -> Sequence[Placement]:
        if names not in self._placed:
            self._placed[names] = place(self._model, self._shapes(names), self._dtype)
        return self._placed[names]

    def _shapes(self, names: frozenset[str]) -> Mapping[str, Sequence[int]]:
        """Of the parameters, and of those fused with them that the checkpoint has."""
        siblings = set(with_siblings(self._model, sorted(names))) - names
        wanted = [*sorted(names), *sorted(name for name in siblings if name in self._checkpoint)]
        return {name: self._checkpoint.shape(name) for name in wanted}

    def _is_untouched(self, placement: Placement) -> bool:
        return self._live.isdisjoint(placement.parameters)

    def _sample(self, placement: Placement) -> tuple[torch.Tensor, torch.Tensor]:
        """Some columns of what a layer serves; here, since only this thread may run its kernel."""
        layer = placement.layer
        width = input_width(layer)
        chosen = torch.linspace(0, width - 1, min(width, _SAMPLE)).long()
        return chosen, columns(layer, chosen)

    def _build(
        self, swap: _Swap, samples: Mapping[str, tuple[torch.Tensor, torch.Tensor]]
    ) -> list[Exchange]:
        updates, neurons = unpack(bytes(swap.data))
        swap.data.clear()
        found: list[Exchange] = []
        for placement in swap.placements:
            with torch.no_grad(), beside_serving(self._device):
                pristine = {name: self._read(name) for name in placement.parameters}
                if sample := samples.get(placement.name):
                    _require_same(placement, assemble(placement, pristine), *sample)
                patched = {
                    name: _patched(name, base, updates.get(name)) for name, base in pristine.items()
                }
                found.append(Replacement(placement, assemble(placement, patched)))
        with torch.no_grad(), beside_serving(self._device):
            found += [UnitsExchange(units, neurons[units.mlp]) for units in swap.units]
        return found

    def _read(self, name: str) -> torch.Tensor:
        base = self._pristine.get(name)
        if base is None:
            base = self._pristine[name] = self._checkpoint.tensor(name)
        return base


def _patched(name: str, base: torch.Tensor, change: DeltaSum | None) -> torch.Tensor:
    if change is None or change.is_empty:
        return base
    if change.shape != base.shape:
        raise SwapFailed(
            f"The delta of {name} is {change.shape} but the base tensor is "
            f"{tuple(base.shape)}; it was computed for another model."
        )
    return change.added_to(base)


def _require_same(
    placement: Placement, pristine: torch.Tensor, chosen: torch.Tensor, served: torch.Tensor
) -> None:
    """Raise SwapFailed if a layer without edits does not serve the checkpoint's weight."""
    expected = pristine[:, chosen].T.float()
    # A kernel may round once more than the cast did.
    if not torch.allclose(served.float(), expected, rtol=1e-2, atol=1e-6):
        raise SwapFailed(
            f"What the engine serves as {placement.name} is not what the checkpoint holds; it was "
            "changed since the server started, or by vLLM. Start the server again, or use a "
            "memory method such as ike."
        )
