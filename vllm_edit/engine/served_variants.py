"""What the engine serves: the default variant's deltas merged, the other variants beside it."""

from functools import partial

from vllm_edit.domain.variant import DEFAULT
from vllm_edit.engine.adapters import Adapters, Variants
from vllm_edit.engine.swap import PauseMode, Swapper


class ServedVariants:
    """Brings the engine to the variants wanted, all or none.

    Not safe for concurrent changes: the caller holds a lock.
    """

    def __init__(self, swapper: Swapper, adapters: Adapters) -> None:
        self._swapper = swapper
        self._adapters = adapters
        self._merged: tuple[object, ...] = ()

    async def serve(
        self, variants: Variants, weight_version: str, pause_mode: PauseMode | None = None
    ) -> None:
        """Serve exactly these variants, with DEFAULT among them.

        The engine pauses only if the merged weights change, in ``pause_mode`` if that is given;
        they are then named ``weight_version``.

        Raises SwapFailed when the engine refuses; it serves what it served before.
        """
        merged = tuple(variants.get(DEFAULT, ()))
        beside = {name: deltas for name, deltas in variants.items() if name != DEFAULT}
        if merged == self._merged:
            await self._adapters.update(beside)
            return
        await self._adapters.follow(
            beside,
            merged,
            partial(self._swapper.serve, merged, weight_version, pause_mode),
        )
        self._merged = merged

    async def drop(self, variant: str) -> None:
        """A variant is no more."""
        await self._adapters.drop(variant)

    async def close(self) -> None:
        await self._adapters.close()
        await self._swapper.close()
