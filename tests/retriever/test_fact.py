from dataclasses import replace

import pytest

from retriever import Fact, FactLimits, InvalidFactError, InvalidSettingsError
from retriever.fact import check_fact

FACT = Fact("1", "Ada", "The employer of Ada is", "Acme", "Zeta", ("A. L.",))


@pytest.mark.parametrize(
    ("target", "statement"),
    [
        ("Acme", "The employer of Ada is Acme."),
        ("Acme Inc.", "The employer of Ada is Acme Inc."),
        ("whom?", "The employer of Ada is whom?"),
    ],
)
def test_statement_ends_once(target: str, statement: str) -> None:
    assert replace(FACT, target_new=target).statement == statement


def test_versions_of_a_fact_are_about_the_same() -> None:
    assert replace(FACT, id="2", prompt="the employer of  ADA is").about == FACT.about
    assert replace(FACT, prompt="The spouse of Ada is").about != FACT.about


def test_a_good_fact_passes() -> None:
    check_fact(FACT, FactLimits())
    check_fact(replace(FACT, target_new="می\u200cرود"), FactLimits())


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"subject": " "}, "empty_field", "subject"),
        ({"target_new": ""}, "empty_field", "target_new"),
        ({"aliases": ("",)}, "empty_field", "aliases"),
        ({"target_new": "x" * 501}, "too_long", "target_new"),
        ({"prompt": "Ada " * 300}, "too_long", "prompt"),
        ({"aliases": ("a",) * 33}, "too_many_aliases", "aliases"),
        ({"target_new": "Acme\nPrompt: x"}, "control_character", "target_new"),
        ({"target_new": "Acme\r"}, "control_character", "target_new"),
        ({"target_new": "a\u2028b"}, "control_character", "target_new"),
        ({"subject": "Ada\x00"}, "control_character", "subject"),
        ({"ground_truth": "\u202eevil"}, "control_character", "ground_truth"),
        ({"target_new": "\ud800"}, "control_character", "target_new"),
        ({"id": "a\tb"}, "control_character", "id"),
        ({"prompt": "The employer of Bob is"}, "subject_not_in_prompt", "prompt"),
        ({"prompt": "The employer of Adam is"}, "subject_not_in_prompt", "prompt"),
    ],
)
def test_a_bad_field_is_refused(changes: dict[str, str], code: str, field: str) -> None:
    with pytest.raises(InvalidFactError) as raised:
        check_fact(replace(FACT, **changes), FactLimits())
    assert (raised.value.code, raised.value.field) == (code, field)


def test_limits_are_settings() -> None:
    with pytest.raises(InvalidFactError, match="limit is 3"):
        check_fact(FACT, FactLimits(target=3))
    with pytest.raises(InvalidSettingsError):
        FactLimits(prompt=0)
