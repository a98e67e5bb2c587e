"""Variants served beside the merged weights, as LoRA adapters of vLLM's."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from vllm_edit.domain.errors import SwapFailed, VariantUnavailable
from vllm_edit.domain.variant import model_name
from vllm_edit.engine.adapter_files import AdapterFiles, difference, rank
from vllm_edit.engine.engine_call import checked
from vllm_edit.engine.grace_period import GracePeriod
from vllm_edit.engine.model_names import ModelNames
from vllm_edit.engine.swap import Meanwhile
from vllm_edit.vllm_interface import models as vllm_models
from vllm_edit.vllm_interface.engine import EngineClient, max_lora_rank
from weight_patchers import Delta

logger = logging.getLogger(__name__)

Deltas = Sequence[Delta]
Variants = Mapping[str, Deltas]
"""By variant, the deltas that its requests see."""


@dataclass(frozen=True, eq=False)
class Adapter:
    """An adapter of vLLM's, and the deltas that its requests see, with the merged ones."""

    number: int
    variant: str
    deltas: Deltas


class _Carrying:
    """Changes adapters while the engine is paused, so that they fit other merged weights."""

    def __init__(
        self,
        files: AdapterFiles,
        load: Callable[[Adapter, bool], Awaitable[None]],
        adapters: Sequence[Adapter],
    ) -> None:
        self._files = files
        self._load = load
        self._adapters = adapters
        self._exchanged: list[Adapter] = []

    async def prepare(self, merged: Deltas) -> None:
        """Write what the adapters will be, while the engine serves."""
        for adapter in self._adapters:
            wanted = difference(adapter.deltas, merged)
            await asyncio.to_thread(self._files.write_next, adapter.number, wanted)

    async def do(self) -> None:
        """Raises SwapFailed when the engine does not take one."""
        for adapter in self._adapters:
            self._files.exchange(adapter.number)
            self._exchanged.append(adapter)
            await self._load(adapter, True)

    async def undo(self) -> None:
        """Raises SwapFailed when the engine does not take one back."""
        while self._exchanged:
            adapter = self._exchanged.pop()
            self._files.exchange(adapter.number)
            await self._load(adapter, True)


class Adapters:
    """Gives every variant the name by which vLLM serves it, with an adapter of its own.

    An adapter adds what its variant has more than the merged weights and subtracts what it has
    less. A variant that changes gets a new adapter, under which nothing is cached yet; running
    requests end with the old one, which is removed after the last of them. When the merged
    weights change, every adapter changes with them, while the engine is paused.

    On an engine without adapters a variant is served while it is what is merged, and no longer.

    Not safe for concurrent changes: the caller holds a lock. Lives on one event loop.
    """

    def __init__(
        self, engine: EngineClient, names: ModelNames, files: AdapterFiles, grace: GracePeriod
    ) -> None:
        self._engine = engine
        self._names = names
        self._files = files
        self._grace = grace
        self._max_rank = max_lora_rank(engine) if files.possible else 0
        self._merged: Deltas = ()
        self._variants: Variants = {}
        self._current: dict[str, Adapter] = {}
        self._retired: set[Adapter] = set()
        self._endings: set[asyncio.Task[None]] = set()
        self._removal = asyncio.Lock()

    async def update(self, variants: Variants) -> None:
        """Serve the variants beside the merged weights as they are; all or none.

        Raises SwapFailed when the engine does not take an adapter.
        """
        changed = {v: d for v, d in variants.items() if self._variants.get(v) != d}
        made = await self._make(changed, self._merged)
        for variant in changed:
            self._retire(variant)
        self._current |= made
        self._publish(changed, self._merged)
        self._variants = {**self._variants, **variants}

    async def follow(
        self, variants: Variants, merged: Deltas, swap: Callable[[Meanwhile], Awaitable[None]]
    ) -> None:
        """Serve the variants beside other merged weights, which ``swap`` brings; all or none.

        A variant that they leave without a fitting adapter ends first, with its last request.
        Raises SwapFailed as ``swap`` does, and when the engine does not take an adapter.
        """
        await self._end_unfit(variants, merged)
        async with self._removal:
            kept = {v: replace(a, deltas=variants[v]) for v, a in self._current.items()}
            new = {v: d for v, d in variants.items() if v not in kept}
            carrying = _Carrying(self._files, self._load, (*kept.values(), *self._retired))
            await carrying.prepare(merged)
            made = await self._make(new, merged)
            try:
                await swap(carrying)
            except SwapFailed:
                await self._remove_all(made.values())
                await self._bring_back()
                raise
        self._current = kept | made
        self._publish(variants, merged)
        self._variants, self._merged = dict(variants), merged

    async def drop(self, variant: str) -> None:
        """The variant is no more."""
        self._names.withdraw(variant)
        self._retire(variant)
        self._variants = {v: d for v, d in self._variants.items() if v != variant}

    async def close(self) -> None:
        """Stop waiting for running requests."""
        for task in self._endings:
            task.cancel()
        await asyncio.gather(*self._endings, return_exceptions=True)

    async def _make(self, variants: Variants, merged: Deltas) -> dict[str, Adapter]:
        """Load an adapter for each of the variants that one fits, all or none."""
        made: dict[str, Adapter] = {}
        try:
            for variant, deltas in variants.items():
                if self._max_rank == 0 or self._unfit(deltas, merged):
                    continue
                made[variant] = Adapter(self._names.new_number(), variant, deltas)
                wanted = difference(deltas, merged)
                await asyncio.to_thread(self._files.write, made[variant].number, wanted)
                await self._load(made[variant])
        except SwapFailed:
            await self._remove_all(made.values())
            raise
        return made

    def _publish(self, variants: Variants, merged: Deltas) -> None:
        for variant, deltas in variants.items():
            if reason := self._unfit(deltas, merged):
                self._names.refuse(variant, reason)
            elif variant in self._current:
                self._names.adapt(variant, self._request(self._current[variant]))
            else:
                self._names.alias(variant)

    def _unfit(self, deltas: Deltas, merged: Deltas) -> str:
        """Why no adapter makes the merged weights these; empty if one does."""
        try:
            width = rank(difference(deltas, merged))
        except VariantUnavailable as error:
            return error.message
        if width and not self._max_rank:
            return (
                "It differs from the merged weights, and this server was started without "
                "--enable-lora."
            )
        if width > self._max_rank:
            return (
                f"It differs from the merged weights by rank {width}, and this server was started "
                f"with --max-lora-rank {self._max_rank}."
            )
        return ""

    async def _end_unfit(self, variants: Variants, merged: Deltas) -> None:
        ended = []
        for variant in self._variants.keys() & variants.keys():
            reason = self._unfit(variants[variant], merged)
            if reason and variant not in self._names.reasons:
                self._names.refuse(variant, reason)
                self._retire(variant)
                ended.append(variant)
        await asyncio.gather(*(self._grace.over(variant) for variant in ended))
        if any(self._unfit(adapter.deltas, merged) for adapter in self._retired):
            await asyncio.gather(*self._endings)

    async def _bring_back(self) -> None:
        """Serve again what was ended for a swap that failed."""
        missing = {v: d for v, d in self._variants.items() if v not in self._current}
        self._current |= await self._make(missing, self._merged)
        self._publish(self._variants, self._merged)

    def _retire(self, variant: str) -> None:
        """Remove the variant's adapter when the requests running now have ended."""
        adapter = self._current.pop(variant, None)
        if adapter is not None:
            self._retired.add(adapter)
            task = asyncio.create_task(self._end(adapter))
            self._endings.add(task)
            task.add_done_callback(self._endings.discard)

    async def _end(self, adapter: Adapter) -> None:
        await self._grace.over(adapter.variant)
        async with self._removal:
            self._retired.discard(adapter)
            await self._remove_all([adapter])

    async def _load(self, adapter: Adapter, again: bool = False) -> None:
        await checked(self._engine.add_lora(self._request(adapter, again)))

    async def _remove_all(self, adapters: Iterable[Adapter]) -> None:
        """Remove adapters that no request uses; one that cannot be does no harm."""
        for adapter in adapters:
            try:
                await checked(self._engine.remove_lora(adapter.number))
            except SwapFailed as error:
                logger.warning("Adapter %d stays loaded: %s", adapter.number, error.message)
            await asyncio.to_thread(self._files.remove, adapter.number)

    def _request(self, adapter: Adapter, again: bool = False) -> vllm_models.Adapter:
        served = self._names.served[0]
        # vLLM takes adapters of one name for the same.
        name = f"{model_name(served, adapter.variant)}.{adapter.number}"
        path = str(self._files.path(adapter.number))
        return vllm_models.adapter(name, adapter.number, path, served, in_place=again)
