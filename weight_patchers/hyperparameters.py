"""Hyperparameters from YAML files: found for a model, checked, overridden.

`hparams/<method>/*.yaml` each hold `match` (values of the model's config that identify it),
`values` and, for editors that are trained, `training`; `hparams/<method>/generic.yaml` holds
`depth` instead of `match`: the layer, or the first and the last one, as a fraction of the model's
depth.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from transformers import PretrainedConfig

from weight_patchers.errors import InvalidHyperparameters

T = TypeVar("T")

_SHIPPED = files("weight_patchers") / "hparams"


def find(kind: type[T], method: str, config: PretrainedConfig, folder: Path | None = None) -> T:
    """The shipped hyperparameters of a model, by its config, or the method's generic ones.

    Those in `folder`, which is laid out like `hparams`, come before the shipped ones.
    """
    _, content = _entry(method, config)
    if folder is not None:
        _, own = _entry(method, config, folder)
        content = own or content
    place = content.get("depth")
    count = config.get_text_config().num_hidden_layers
    return build(kind, content["values"] | ({} if place is None else _place(place, count)))


def find_training(kind: type[T], method: str, config: PretrainedConfig) -> T:
    """How the method's editor is trained for a model: its own `training`, or the generic one."""
    _, content = _entry(method, config)
    return build(kind, content["training"])


def shipped(method: str, config: PretrainedConfig) -> str | None:
    """The name of the hyperparameters that `find` finds, or None for the generic ones."""
    name, content = _entry(method, config)
    return name if "match" in content else None


def _entry(
    method: str, config: PretrainedConfig, hparams: Traversable = _SHIPPED
) -> tuple[str, dict[str, Any]]:
    """The file that serves the model: its name without the ending, and its content if any."""
    text_config = config.get_text_config()
    generic: tuple[str, dict[str, Any]] = ("", {})
    folder = hparams / method
    entries = folder.iterdir() if folder.is_dir() else ()
    for entry in sorted(entries, key=lambda entry: entry.name):
        if not entry.name.endswith(".yaml"):
            continue
        content = yaml.safe_load(entry.read_text(encoding="utf-8"))
        if "match" not in content:
            generic = entry.name.removesuffix(".yaml"), content
        elif all(getattr(text_config, k, None) == v for k, v in content["match"].items()):
            return entry.name.removesuffix(".yaml"), content
    return generic


def _place(depth: float | Sequence[float], layers: int) -> dict[str, Any]:
    """`layer` at a fraction of the depth, or `layers` from the first to the last of two."""
    if isinstance(depth, float):
        return {"layer": min(round(depth * layers), layers - 1)}
    first, last = (min(round(fraction * layers), layers - 1) for fraction in depth)
    return {"layers": tuple(range(first, last + 1))}


def override(hparams: T, values: Mapping[str, Any]) -> T:
    """The same hyperparameters with some values replaced, checked like those of a file."""
    current = dataclasses.asdict(typing.cast("Any", hparams))
    return build(type(hparams), {**current, **values})


def build(kind: type[T], values: Mapping[str, Any]) -> T:
    """Make the dataclass `kind` from plain values; lists become tuples, integers floats.

    Raises InvalidHyperparameters for an unknown name, a missing one, or a value of a wrong type.
    """
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise InvalidHyperparameters(
            f"unknown hyperparameters {', '.join(unknown)}: known are {', '.join(hints)}"
        )
    checked = {name: _convert(name, value, hints[name]) for name, value in values.items()}
    try:
        return kind(**checked)
    except TypeError as error:
        raise InvalidHyperparameters(f"hyperparameters are incomplete: {error}") from error


def _convert(name: str, value: object, hint: object) -> object:
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    for option in options:
        if option is type(None) and value is None:
            return None
        if option is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        if option in (int, bool, str) and type(value) is option:
            return value
        if typing.get_origin(option) is tuple and isinstance(value, (list, tuple)):
            return tuple(_convert(name, item, typing.get_args(option)[0]) for item in value)
    expected = getattr(hint, "__name__", str(hint))
    raise InvalidHyperparameters(f"{name} is {value!r}: it must be of type {expected}")
