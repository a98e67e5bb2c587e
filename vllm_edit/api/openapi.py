"""The OpenAPI page, where a route reads its body by itself."""

from typing import Any

import jsonref
from pydantic import BaseModel, TypeAdapter


def body_docs(body: Any) -> dict[str, Any]:
    """A route's ``openapi_extra`` for a JSON body of a type, a pydantic model or a union."""
    schema = _schema(body)
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def query_docs(parameters: type[BaseModel]) -> dict[str, Any]:
    """A route's ``openapi_extra`` for the parameters in its URL."""
    described = [
        {"name": name, "in": "query", "description": field.pop("description"), "schema": field}
        for name, field in _schema(parameters)["properties"].items()
    ]
    return {"parameters": described}


def _schema(kind: Any) -> Any:
    """Its JSON schema, where each reference, which would lead nowhere, is what it refers to."""
    schema = jsonref.replace_refs(TypeAdapter(kind).json_schema(), proxies=False, lazy_load=False)
    schema.pop("$defs", None)
    return schema
