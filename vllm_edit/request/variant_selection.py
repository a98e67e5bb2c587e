"""Which variant a request sees, and the request that vLLM gets for it."""

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from typing import Any

from vllm_edit.domain.errors import InvalidChoice, VariantUnavailable
from vllm_edit.domain.traffic_split import TrafficSplit
from vllm_edit.domain.variant import DEFAULT, model_name
from vllm_edit.engine.model_names import ModelNames

HEADER = "x-edit-variant"
FIELD = "edit_variant"

_SALT_SECRET = secrets.token_bytes()


def chosen_variant(
    names: ModelNames, request: Mapping[str, Any], headers: Mapping[str, str]
) -> str | None:
    """The variant that a request chooses by its model, its header or its field, if any.

    Raises InvalidChoice if it chooses several, or one of a model that has no variants.
    """
    model = request.get("model")
    by_model = names.variant_of(str(model))
    choices = [by_model, headers.get(HEADER), request.get(FIELD)]
    variants = {str(choice) for choice in choices if choice is not None}
    if len(variants) > 1:
        raise InvalidChoice(
            f"The request chooses the variants {', '.join(sorted(variants))} at once; choose one, "
            f"by the model, the header {HEADER} or the field {FIELD}."
        )
    if variants and by_model is None and model not in (None, *names.served):
        raise InvalidChoice(
            f"The model {model!r} has no variants; ask for {' or '.join(names.served)}.",
            field="model",
        )
    return variants.pop() if variants else None


def assigned_variant(
    split: TrafficSplit | None,
    names: ModelNames,
    request: Mapping[str, Any],
    headers: Mapping[str, str],
    client: str,
) -> str:
    """The variant of a request that does not choose one; ``client`` is its address."""
    if split is None or request.get("model") not in (None, *names.served):
        return DEFAULT
    key = None
    if split.header:
        key = headers.get(split.header)
    elif split.by == "user":
        key = request.get("user")
    return split.choose(str(key) if key else client)


def request_for_variant(
    names: ModelNames, request: Mapping[str, Any], variant: str
) -> dict[str, Any]:
    """The request as vLLM must get it to answer it with the variant.

    Raises VariantUnavailable if it cannot.
    """
    changed = dict(request)
    if variant == DEFAULT:
        return changed
    if reason := names.reasons.get(variant):
        raise VariantUnavailable(f"The variant {variant!r} cannot be served: {reason}")
    model = str(request.get("model") or names.served[0])
    if names.variant_of(model) is None:
        changed["model"] = model_name(model, variant)
    given = changed.get("cache_salt")
    if given is None or (isinstance(given, str) and given):
        changed["cache_salt"] = _cache_salt(variant, given)
    return changed


def _cache_salt(variant: str, given: str | None) -> str:
    """The salt of a variant's requests that have ``given`` themselves.

    Another variant must neither use what this one computed nor find out about it, so nobody can
    know the salt.
    """
    text = json.dumps([variant, given])
    return hmac.new(_SALT_SECRET, text.encode(), hashlib.sha256).hexdigest()
