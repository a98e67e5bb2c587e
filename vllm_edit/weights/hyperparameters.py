"""The file of --edit-hparams: values that replace those of weight methods and the governor."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml
from transformers import AutoConfig

from vllm_edit.domain.errors import Unavailable
from weight_patchers import PatcherError
from weight_patchers.governor import GOVERNOR, Bounds
from weight_patchers.hyperparameters import find, override
from weight_patchers.methods import METHODS

KINDS: Mapping[str, type[Any]] = MappingProxyType(
    {name: method.hparams for name, method in METHODS.items()} | {GOVERNOR: Bounds}
)
"""What the file may name, and the values that each has."""


def read_hyperparameters(path: Path, model: Path) -> dict[str, dict[str, Any]]:
    """What the file says, checked for the checkpoint in folder ``model``.

    The file looks like ``rome: {steps: 20}``; under ``governor`` are its bounds. Raises
    Unavailable naming what is wrong in it.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise Unavailable(f"--edit-hparams {path} cannot be read: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(v, dict) for v in content.values()):
        raise Unavailable(
            f"--edit-hparams {path} must hold, for each method, a mapping of names to values, "
            "like: rome: {steps: 20}"
        )
    if unknown := [str(name) for name in content if name not in KINDS]:
        raise Unavailable(
            f"--edit-hparams {path} names {', '.join(unknown)}; the weight methods are "
            f"{', '.join(sorted(METHODS))}, and {GOVERNOR} has their bounds."
        )
    chosen = {name: {str(key): value for key, value in v.items()} for name, v in content.items()}
    _require_valid(path, chosen, model)
    return chosen


def _require_valid(path: Path, chosen: Mapping[str, Mapping[str, Any]], model: Path) -> None:
    try:
        config = AutoConfig.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise Unavailable(f"The config of {model} cannot be read: {error}") from error
    for name, values in chosen.items():
        try:
            override(find(KINDS[name], name, config), values)
        except PatcherError as error:
            raise Unavailable(f"--edit-hparams {path}, {name}: {error}.") from error
