"""Variants served beside the merged weights, as LoRA adapters of vLLM's."""

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial

from vllm_edit.engine.adapter_change import AdapterChange
from vllm_edit.engine.adapter_loader import Adapter, AdapterLoader, Deltas, Variants
from vllm_edit.engine.grace_period import GracePeriod
from vllm_edit.engine.model_names import ModelNames
from vllm_edit.processes.supervision import in_background


class Adapters:
    """Serves every variant under its name, with an adapter of its own.

    An adapter adds the deltas that its variant has and the merged weights lack, and subtracts
    those that only the merged weights have. A variant that changes gets a new adapter, for which
    nothing is cached yet. Running requests end with the old adapter, which is then removed. When
    the merged weights change, every adapter changes with them, in the pause of the swap.

    On an engine without adapters a variant is served only while it equals the merged weights.

    Not safe for concurrent changes: the caller holds a lock. Lives on one event loop.
    """

    def __init__(self, loader: AdapterLoader, names: ModelNames, grace: GracePeriod) -> None:
        self._loader = loader
        self._names = names
        self._grace = grace
        self._merged: Deltas = ()
        self._variants: Variants = {}
        self._current: dict[str, Adapter] = {}
        self._retired: dict[Adapter, asyncio.Task[None]] = {}
        self._outlasting: set[Adapter] = set()
        self._removal = asyncio.Lock()

    async def update(self, variants: Variants) -> None:
        """Serve these variants beside unchanged merged weights; all or none.

        Raises SwapFailed when the engine does not take an adapter.
        """
        changed = {v: d for v, d in variants.items() if self._variants.get(v) != d}
        new = await self._loader.create(changed, self._merged)
        for variant in changed:
            self._retire(variant)
        self._current |= new
        self._publish(changed, self._merged)
        self._variants = {**self._variants, **variants}

    def change(self, variants: Variants, merged: Deltas) -> AdapterChange:
        """What a swap to these merged deltas does, to serve exactly these variants beside them."""
        return _Change(self, variants, merged)

    async def drop(self, variant: str) -> None:
        """Stop serving a variant that was deleted."""
        self._names.remove(variant)
        self._retire(variant)
        self._variants = {v: d for v, d in self._variants.items() if v != variant}

    async def close(self) -> None:
        """Stop waiting for running requests."""
        for task in self._retired.values():
            task.cancel()
        await asyncio.gather(*self._retired.values(), return_exceptions=True)

    def _publish(self, variants: Variants, merged: Deltas) -> None:
        for variant, deltas in variants.items():
            if obstacle := self._loader.obstacle(deltas, merged):
                self._names.make_unavailable(variant, obstacle)
            elif variant in self._current:
                adapter = self._loader.request(self._current[variant])
                self._names.serve_with_adapter(variant, adapter)
            else:
                self._names.serve_as_merged(variant)

    def _retire(self, variant: str) -> None:
        """Remove the variant's adapter when the requests running now have ended."""
        adapter = self._current.pop(variant, None)
        if adapter is not None:
            remove = partial(self._remove_unused, adapter)
            self._retired[adapter] = in_background("adapters", remove)

    async def _remove_unused(self, adapter: Adapter) -> None:
        await self._grace.wait_for_requests(adapter.variant)
        async with self._removal:
            del self._retired[adapter]
            self._outlasting.discard(adapter)
            await self._loader.remove([adapter])


class _Change(AdapterChange):
    """The change of adapters that has them fit other merged weights."""

    def __init__(self, adapters: Adapters, variants: Variants, merged: Deltas) -> None:
        self._adapters = adapters
        self._loader = adapters._loader
        self._variants = variants
        self._merged = merged
        self._kept: dict[str, Adapter] = {}
        self._new: dict[str, Adapter] = {}
        self._loaded: list[Adapter] = []
        self._exchanged: list[Adapter] = []

    def without_removal(self) -> AbstractAsyncContextManager[object]:
        return self._adapters._removal

    async def end_unfit(self) -> None:
        adapters, ended = self._adapters, []
        for variant in adapters._variants.keys() & self._variants.keys():
            obstacle = self._loader.obstacle(self._variants[variant], self._merged)
            if obstacle and variant not in adapters._names.reasons:
                adapters._names.make_unavailable(variant, obstacle)
                adapters._retire(variant)
                ended.append(variant)
        await asyncio.gather(*(adapters._grace.wait_for_requests(variant) for variant in ended))
        endings = [
            ending
            for old, ending in adapters._retired.items()
            if old not in adapters._outlasting and self._is_unfit(old)
        ]
        if endings:
            # Not gathered: they must go on if this is cancelled.
            await asyncio.wait(endings)

    def _is_unfit(self, adapter: Adapter) -> bool:
        return bool(self._loader.obstacle(adapter.deltas, self._merged))

    async def prepare(self) -> None:
        current, retired = self._adapters._current, self._adapters._retired
        self._kept = {v: replace(a, deltas=self._variants[v]) for v, a in current.items()}
        # Requests that began before their variant changed still use its retired adapter. One that
        # cannot fit the new weights stays as it is until they end, and no swap waits for it again.
        self._adapters._outlasting |= {old for old in retired if self._is_unfit(old)}
        fitting = [old for old in retired if old not in self._adapters._outlasting]
        self._loaded = [*self._kept.values(), *fitting]
        for adapter in self._loaded:
            await self._loader.write_next(adapter, self._merged)
        new = {v: deltas for v, deltas in self._variants.items() if v not in self._kept}
        self._new = await self._loader.create(new, self._merged)

    async def exchange(self) -> None:
        await self._loader.exchange(self._loaded, self._exchanged)

    async def exchange_back(self) -> None:
        await self._loader.exchange(self._exchanged[::-1], [])

    async def take_back(self) -> None:
        adapters = self._adapters
        await self._loader.remove(self._new.values())
        missing = {v: d for v, d in adapters._variants.items() if v not in adapters._current}
        adapters._current |= await self._loader.create(missing, adapters._merged)
        adapters._publish(adapters._variants, adapters._merged)

    def publish(self) -> None:
        adapters = self._adapters
        adapters._current = self._kept | self._new
        adapters._publish(self._variants, self._merged)
        adapters._variants, adapters._merged = dict(self._variants), self._merged
