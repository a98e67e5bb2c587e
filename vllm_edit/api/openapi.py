"""The OpenAPI page, where a route reads its body by itself."""

from typing import Any

import jsonref
from pydantic import TypeAdapter


def body_docs(body: Any) -> dict[str, Any]:
    """A route's ``openapi_extra`` for a JSON body of a type, a pydantic model or a union.

    Every reference is replaced by what it refers to: it would lead nowhere on that page.
    """
    schema = jsonref.replace_refs(TypeAdapter(body).json_schema(), proxies=False, lazy_load=False)
    schema.pop("$defs", None)
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
