"""Settings come from the environment, and every field has a flag that sets its variable."""

import argparse

import pytest

from vllm_edit.domain.errors import Unavailable
from vllm_edit.settings import Settings, add_flags, flags_to_environment, variable


def test_nothing_set_gives_the_defaults() -> None:
    assert Settings.from_environment({}) == Settings()


def test_a_flag_becomes_a_variable_and_a_setting() -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    namespace = parser.parse_args(["--edit-store", "/s", "--edit-max-batch=3"])
    environment = flags_to_environment(namespace)
    assert environment == {"VLLM_EDIT_STORE": "/s", "VLLM_EDIT_MAX_BATCH": "3"}
    settings = Settings.from_environment(environment)
    assert (settings.store, settings.max_batch) == ("/s", 3)


def test_every_field_has_a_flag_with_help() -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    for name in Settings.model_fields:
        assert f"--edit-{name.replace('_', '-')}" in parser.format_help()
        assert variable(name) == f"VLLM_EDIT_{name.upper()}"


@pytest.mark.parametrize(
    "environment",
    [
        {"VLLM_EDIT_MAX_BATCH": "many"},
        {"VLLM_EDIT_PAUSE_MODE": "stop"},
        {"VLLM_EDIT_MAX_BATCH": "0"},
        {"VLLM_EDIT_SWAP_SHARE": "0"},
        {"VLLM_EDIT_SCOPE_THRESHOLD": "1.1"},
        {"VLLM_EDIT_SCOPE_THRESHOLD": "nan"},
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_by_its_name(environment: dict[str, str]) -> None:
    with pytest.raises(Unavailable, match=next(iter(environment))):
        Settings.from_environment(environment)
