"""What vLLM gets for a request of a variant."""

from types import SimpleNamespace
from typing import Any

import pytest

from vllm_edit.request.variant_selection import request_for_variant

NAMES: Any = SimpleNamespace(
    reasons={}, served=("m",), variant_of=lambda name: name.partition("@")[2] or None
)


def salt(variant: str, given: object = None) -> Any:
    request = {"model": "m", "prompt": "x"} | ({} if given is None else {"cache_salt": given})
    return request_for_variant(NAMES, request, variant).get("cache_salt")


def test_no_other_variant_and_no_client_can_name_a_variant_s_salt() -> None:
    mine = salt("acme")
    assert mine == salt("acme")
    assert len(mine) == 64
    assert "acme" not in mine
    for variant, given in (("globex", None), ("globex", mine), ("acme", "x"), ("acme", mine)):
        assert salt(variant, given) != mine
    assert salt("acme", "x") == salt("acme", "x") != salt("globex", "x")
    assert (salt("default"), salt("default", "x")) == (None, "x")


@pytest.mark.parametrize("given", ["", 7, ["x"]])
def test_a_salt_that_vllm_refuses_stays_as_it_is(given: object) -> None:
    assert salt("acme", given) == given
