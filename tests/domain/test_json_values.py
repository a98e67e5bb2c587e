"""Dataclasses from JSON values."""

import pytest

from vllm_edit.domain.edit import EditRequest
from vllm_edit.domain.json_values import from_json
from vllm_edit.domain.probe import Probes

EDIT = {"method": "ike", "prompt": "Ann is", "subject": "Ann", "target_new": "tall"}


def test_defaults_are_attributes_at_any_depth() -> None:
    edit = from_json(EditRequest, EDIT | {"probes": {"unchanged": ["Bob is"]}})
    assert vars(edit)["keep"] is False
    assert edit.probes is not None
    assert vars(edit.probes) == vars(Probes(unchanged=("Bob is",)))


@pytest.mark.parametrize("more", [{"new": 1}, {"probes": {"new": 1}}])
def test_an_unknown_field_is_refused_at_any_depth(more: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="unknown fields"):
        from_json(EditRequest, EDIT | more)
