"""The file of --edit-hparams: values that replace a weight method's own, by method."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from transformers import AutoConfig

from vllm_edit.errors import Unavailable
from weight_patchers import PatcherError
from weight_patchers.hyperparameters import find, override
from weight_patchers.methods import METHODS


def read_hyperparameters(path: Path, model: Path) -> dict[str, dict[str, Any]]:
    """What the file says, checked for the checkpoint in folder ``model``.

    The file looks like ``rome: {steps: 20}``. Raises Unavailable naming what is wrong in it.
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
    if unknown := [str(name) for name in content if name not in METHODS]:
        raise Unavailable(
            f"--edit-hparams {path} names {', '.join(unknown)}; the weight methods are "
            f"{', '.join(sorted(METHODS))}."
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
            override(find(METHODS[name].hparams, name, config), values)
        except PatcherError as error:
            raise Unavailable(f"--edit-hparams {path}, {name}: {error}.") from error
