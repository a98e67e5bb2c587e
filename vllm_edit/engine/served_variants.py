"""What the engine serves: the default variant's deltas merged, the other variants beside it."""

import asyncio

from vllm_edit.domain.variant import DEFAULT
from vllm_edit.engine.adapter_loader import Variants
from vllm_edit.engine.adapters import Adapters
from vllm_edit.engine.swap import Swapper
from vllm_edit.vllm_interface.engine import PauseMode


class ServedVariants:
    """Makes the engine serve exactly the given variants, or leaves it as it is.

    Changes run one at a time and to their end, even if the caller is cancelled.
    """

    def __init__(self, swapper: Swapper, adapters: Adapters) -> None:
        self._swapper = swapper
        self._adapters = adapters
        self._merged: tuple[object, ...] = ()
        self._lock = asyncio.Lock()

    @property
    def stopped(self) -> str | None:
        """Why the engine answers nothing until the server is started again; None while it does."""
        return self._swapper.stopped

    async def serve(
        self, variants: Variants, weight_version: str, pause_mode: PauseMode | None = None
    ) -> None:
        """Serve exactly these variants, with DEFAULT among them.

        The engine pauses only if the merged weights change, in ``pause_mode`` if that is given;
        they are then named ``weight_version``.

        Raises SwapFailed when the engine refuses; it serves what it served before.
        """
        await asyncio.shield(self._serve(variants, weight_version, pause_mode))

    async def drop(self, variant: str) -> None:
        """Stop serving a variant that was deleted."""
        async with self._lock:
            await self._adapters.drop(variant)

    async def close(self) -> None:
        await self._adapters.close()
        await self._swapper.close()

    async def _serve(
        self, variants: Variants, weight_version: str, pause_mode: PauseMode | None
    ) -> None:
        merged = tuple(variants.get(DEFAULT, ()))
        beside = {name: deltas for name, deltas in variants.items() if name != DEFAULT}
        async with self._lock:
            if merged == self._merged:
                await self._adapters.update(beside)
                return
            change = self._adapters.change(beside, merged)
            await self._swapper.serve(merged, weight_version, pause_mode, change)
            self._merged = merged
