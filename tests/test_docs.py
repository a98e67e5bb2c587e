"""The README names every setting, command, route and method there is."""

import re
from pathlib import Path

import pytest

from vllm_edit.api.attach import router
from vllm_edit.cli import _parser
from vllm_edit.memory.method import MemoryMethod
from vllm_edit.settings import Settings
from vllm_edit.weights.method import WeightMethod

README = (Path(__file__).parents[1] / "README.md").read_text()


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_named(name: str) -> None:
    assert f"`--edit-{name.replace('_', '-')}`" in README


def test_every_route_is_named() -> None:
    for route in router.routes:
        path = route.path.replace("edit_id", "id")  # type: ignore[attr-defined]
        for method in route.methods:  # type: ignore[attr-defined]
            assert re.search(rf"`{method} [^|]*{re.escape(path)}`", README)


def test_every_method_is_described() -> None:
    for name in MemoryMethod.names | WeightMethod.names:
        assert f"| `{name}` |" in README


def test_every_command_is_named() -> None:
    commands = re.search(r"COMMAND(.*)", _parser().format_help(), re.DOTALL)
    assert commands is not None
    for name in re.findall(r"^ {4}(\w+)", commands[1], re.MULTILINE):
        assert f"vllm-edit {name}" in README or f"make {name}" in README
