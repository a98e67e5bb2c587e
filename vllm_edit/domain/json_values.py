"""Dataclasses from JSON values."""

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


def from_json(kind: type[T], data: Any) -> T:
    """A dataclass from its JSON object; raises ValueError for one that does not fit.

    So does one with an unknown field, at any depth. msgspec would ignore it, and a later version
    may limit with it who sees an edit.
    """
    value = msgspec.convert(data, kind)
    if not _has_fields_of(msgspec.to_builtins(value), data):
        raise ValueError(f"{kind.__name__} has unknown fields")
    _set_defaults(value)
    return value


def _set_defaults(value: Any) -> None:
    """Make attributes of the defaults, so that `vars` shows them: msgspec leaves them unset."""
    attributes = vars(value)
    for field in fields(value):
        part = attributes.setdefault(field.name, field.default)
        if hasattr(part, "__dataclass_fields__"):
            _set_defaults(part)


def _has_fields_of(known: Any, data: Any) -> bool:
    if isinstance(data, Mapping):
        return all(name in known and _has_fields_of(known[name], data[name]) for name in data)
    if isinstance(data, list):
        return all(map(_has_fields_of, known, data))
    return True
