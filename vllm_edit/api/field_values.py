"""The values of a dataclass's fields, for the schemas that show it."""

from dataclasses import fields
from typing import Any


def field_values(data: Any) -> dict[str, Any]:
    """The fields of a dataclass and their values; nested dataclasses stay as they are.

    `vars` would lack the fields that msgspec left at their defaults.
    """
    return {field.name: getattr(data, field.name) for field in fields(data)}
