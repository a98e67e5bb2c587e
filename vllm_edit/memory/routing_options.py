"""How a request asks to be routed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vllm_edit.domain.errors import InvalidChoice

HOPS_HEADER = "x-edit-hops"
HOPS_FIELD = "edit_hops"

_WORDS = {"true": True, "false": False}


@dataclass(frozen=True)
class RoutingOptions:
    """The variant that a request sees, and what it says about its routing."""

    variant: str
    hops: bool | None = None
    """Whether it is a question of several hops; None if it does not say."""
    user: str | None = None


def read_routing_options(
    request: Mapping[str, Any], headers: Mapping[str, str], variant: str
) -> RoutingOptions:
    """Read from the request's fields and headers; raises InvalidChoice."""
    user = request.get("user")
    return RoutingOptions(variant, _hops(request, headers), user if isinstance(user, str) else None)


def _hops(request: Mapping[str, Any], headers: Mapping[str, str]) -> bool | None:
    hops = request.get(HOPS_FIELD)
    if hops is None and HOPS_HEADER in headers:
        hops = _WORDS.get(headers[HOPS_HEADER].strip().lower(), "")
    if hops is not None and not isinstance(hops, bool):
        raise InvalidChoice(
            f"{HOPS_FIELD} and the header {HOPS_HEADER} are true or false.",
            code="bad_hops",
            field=HOPS_FIELD,
        )
    return hops
