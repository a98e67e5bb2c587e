"""Adapters in the running engine: which fit, and loading and removing them."""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vllm_edit.domain.errors import SwapFailed, VariantUnavailable
from vllm_edit.engine.adapter_files import AdapterFiles, difference, rank
from vllm_edit.engine.deadlines import Deadlines
from vllm_edit.engine.engine_call import call_engine
from vllm_edit.engine.metrics import forget_adapter
from vllm_edit.engine.model_names import ModelNames
from vllm_edit.vllm_interface import models as vllm_models
from vllm_edit.vllm_interface.engine import EngineClient, adapter_gauges, max_lora_rank
from weight_patchers import Delta

logger = logging.getLogger(__name__)

Deltas = Sequence[Delta]
Variants = Mapping[str, Deltas]
"""By variant, the deltas that its requests see."""


@dataclass(frozen=True, eq=False)
class Adapter:
    """A LoRA adapter in vLLM. `deltas` is all that its requests see, merged deltas included.

    To vLLM, adapters of one ``name`` are the same.
    """

    number: int
    name: str
    variant: str
    deltas: Deltas


class AdapterLoader:
    """Makes adapters that turn the merged deltas into those of a variant."""

    def __init__(
        self,
        engine: EngineClient,
        names: ModelNames,
        files: AdapterFiles,
        deadlines: Deadlines | None = None,
    ) -> None:
        self._engine = engine
        self._seconds = (deadlines or Deadlines()).answer
        self._names = names
        self._files = files
        self._max_rank = max_lora_rank(engine) if files.possible else 0

    def obstacle(self, deltas: Deltas, merged: Deltas) -> str:
        """Why no adapter turns the merged deltas into these; empty if one does."""
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

    async def create(self, variants: Variants, merged: Deltas) -> dict[str, Adapter]:
        """Load a new adapter for each variant that can have one, all or none.

        Raises SwapFailed if the engine does not take one.
        """
        adapters: dict[str, Adapter] = {}
        try:
            for variant, deltas in variants.items():
                if self._max_rank == 0 or self.obstacle(deltas, merged):
                    continue
                number = self._names.new_number()
                name = self._names.adapter_name(variant, number)
                adapter = Adapter(number, name, variant, deltas)
                adapters[variant] = adapter
                changes = difference(deltas, merged)
                await asyncio.to_thread(self._files.write, adapter.number, changes)
                await self._load(adapter)
        except SwapFailed:
            await self.remove(adapters.values())
            raise
        return adapters

    async def write_next(self, adapter: Adapter, merged: Deltas) -> None:
        """Write what the adapter will be beside other merged deltas."""
        changes = difference(adapter.deltas, merged)
        await asyncio.to_thread(self._files.write_next, adapter.number, changes)

    async def exchange(self, adapters: Sequence[Adapter], exchanged: list[Adapter]) -> None:
        """Let the adapters change places with what `write_next` wrote, and load them again.

        `exchanged` gets those whose files have changed places, even if this raises SwapFailed.
        """
        for adapter in adapters:
            self._files.exchange(adapter.number)
            exchanged.append(adapter)
            await self._load(adapter, again=True)

    async def remove(self, adapters: Iterable[Adapter]) -> None:
        """Remove adapters that no request uses. One that vLLM keeps does no harm."""
        for adapter in adapters:
            try:
                await call_engine(self._engine.remove_lora(adapter.number), self._seconds)
            except SwapFailed as error:
                logger.warning("Adapter %d stays loaded: %s", adapter.number, error.message)
            for gauge in adapter_gauges(self._engine):
                forget_adapter(gauge, adapter.name)
            await asyncio.to_thread(self._files.remove, adapter.number)

    def request(self, adapter: Adapter, again: bool = False) -> vllm_models.Adapter:
        """The adapter as vLLM knows it."""
        path, served = str(self._files.path(adapter.number)), self._names.served[0]
        return vllm_models.adapter(adapter.name, adapter.number, path, served, in_place=again)

    async def _load(self, adapter: Adapter, again: bool = False) -> None:
        await call_engine(self._engine.add_lora(self.request(adapter, again)), self._seconds)
