"""What vLLM finds where it looks model names up, by who asks."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from vllm.entrypoints.openai.models.protocol import BaseModelPath
from vllm.entrypoints.openai.models.serving import OpenAIServingModels

from vllm_edit.domain.edit_set import EditSet
from vllm_edit.domain.errors import unknown_edit_set
from vllm_edit.engine.model_names import ModelNames
from vllm_edit.security.visibility import ADMINISTRATOR, OUTSIDER, Viewer, Views, viewing
from vllm_edit.vllm_interface.models import adapter

ACME, GLOBEX = Viewer(tenant="acme"), Viewer(tenant="globex")
SETS = {name: EditSet.new(name, owner) for name, owner in (("merged", "acme"), ("beside", "acme"),
                                                           ("news", None))}  # fmt: skip


def find(name: str) -> EditSet:
    if name not in SETS:
        raise unknown_edit_set(name)
    return SETS[name]


@pytest.fixture
def models() -> Any:
    """vLLM's own registry."""
    config = SimpleNamespace(max_model_len=64)
    engine: Any = SimpleNamespace(model_config=config, renderer=None, input_processor=None)
    return OpenAIServingModels(engine, [BaseModelPath("m", "path"), BaseModelPath("n", "path")])


@pytest.fixture
def names(models: Any) -> ModelNames:
    models.lora_requests["own"] = adapter("own", 7, "/own", "m")
    names = ModelNames(models, Views(find))
    for variant in ("default", "merged", "news", "gone"):
        names.serve_as_merged(variant)
    number = names.new_number()
    names.serve_with_adapter(
        "beside", adapter(names.adapter_name("beside", number), number, "/x", "m")
    )
    return names


def found(models: Any) -> set[str]:
    """The variants that vLLM finds, each under all names."""
    variants = set()
    for variant in (*SETS, "default", "gone"):
        seen = {
            models.is_base_model(f"{served}@{variant}")
            or f"{served}@{variant}" in models.lora_requests
            for served in ("m", "n")
        }
        assert len(seen) == 1
        variants |= {variant} if seen == {True} else set()
    return variants


async def test_each_finds_what_they_may_see(models: Any, names: ModelNames) -> None:
    everybody = {"default", "news"}
    for viewer, variants in (
        (OUTSIDER, everybody),
        (GLOBEX, everybody),
        (ACME, everybody | {"merged", "beside"}),
        (ADMINISTRATOR, everybody | {"merged", "beside", "gone"}),
    ):
        with viewing(viewer):
            assert found(models) == variants
            assert await asyncio.create_task(asyncio.to_thread(found, models)) == variants
            listed = await models.show_available_models()
            assert len(listed.data) == len(names.listed()) == 3 + 2 * len(variants)
            assert models.base_model_paths[0].name == models.model_name() == "m"
            assert ("m@beside" in dict(models.lora_requests)) == ("beside" in variants)
    assert found(models) == everybody


async def test_what_vllm_puts_under_the_name_of_a_variant_is_not_found(
    models: Any, names: ModelNames
) -> None:
    models.lora_requests["m@beside"] = adapter("m@beside", 9, "/else", "m")
    assert "m@beside" not in models.lora_requests
    with viewing(ACME):
        assert models.lora_requests["m@beside"].lora_path == "/x"
        del models.lora_requests["m@beside"]
        assert models.lora_requests["m@beside"].lora_path == "/x"
    names.remove("beside")
    with viewing(ADMINISTRATOR):
        assert "m@beside" not in models.lora_requests
    assert list(models.lora_requests) == ["own"]


def test_an_adapter_s_name_does_not_tell_whose_it_is(names: ModelNames) -> None:
    assert names.adapter_name("news", 3) == "m@news.3"
    assert names.adapter_name("beside", 3) == names.adapter_name("gone", 3) == "m.3"


def test_variants_that_end_are_reported(models: Any) -> None:
    ended: list[str] = []
    names = ModelNames(models, Views(find), ended.append)
    names.serve_as_merged("news")
    assert ended == []
    names.copy({})
    assert ended == ["news"]
