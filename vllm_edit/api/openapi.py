"""Schemas of bodies for the OpenAPI page, where they are not FastAPI's own."""

from typing import Any

from pydantic import BaseModel


def body_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a model, whole: what it refers to stands where it does so."""
    schema = model.model_json_schema()
    resolved: dict[str, Any] = _resolved(schema, schema.pop("$defs", {}))
    return resolved


def _resolved(part: Any, parts: dict[str, Any]) -> Any:
    if isinstance(part, list):
        return [_resolved(item, parts) for item in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        return _resolved(parts[part["$ref"].rpartition("/")[2]], parts)
    return {name: _resolved(value, parts) for name, value in part.items()}
