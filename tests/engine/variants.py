"""Variants over an engine of a test's own, put together as a server does it."""

from pathlib import Path
from typing import Any

from vllm.entrypoints.openai.models.protocol import BaseModelPath
from vllm.entrypoints.openai.models.serving import OpenAIServingModels

from vllm_edit import factworld
from vllm_edit.domain.edit_set import EditSet
from vllm_edit.domain.errors import unknown_edit_set
from vllm_edit.engine.adapter_files import AdapterFiles
from vllm_edit.engine.adapter_loader import AdapterLoader
from vllm_edit.engine.adapters import Adapters
from vllm_edit.engine.grace_period import GracePeriod
from vllm_edit.engine.model_names import ModelNames
from vllm_edit.engine.served_variants import ServedVariants
from vllm_edit.engine.swap import Swapper
from vllm_edit.security.visibility import Views


def no_set(name: str) -> EditSet:
    raise unknown_edit_set(name)


def variants_over(
    client: Any, swapper: Swapper, folder: Path, grace: GracePeriod | None = None
) -> ServedVariants:
    """What an engine serves, with adapters in the folder."""
    model = factworld.checkpoint()
    models = OpenAIServingModels(client, [BaseModelPath("factworld", str(model))])
    names = ModelNames(models, Views(no_set))
    loader = AdapterLoader(client, names, AdapterFiles(model, folder))
    return ServedVariants(swapper, Adapters(loader, names, grace or GracePeriod()))
