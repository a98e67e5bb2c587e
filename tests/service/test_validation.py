"""What no edit may hold, whatever its method."""

import pytest

from vllm_edit.domain.edit import EditRequest
from vllm_edit.domain.errors import InvalidEdit
from vllm_edit.service.validation import EditValidator
from vllm_edit.settings import Settings

METHODS = ("ike", "rome")


def check(method: str, prompt: str, subject: str, target: str = "x") -> None:
    EditValidator(Settings(), METHODS, ()).check(EditRequest(method, prompt, subject, target))


@pytest.mark.parametrize("method", METHODS)
def test_a_subject_inside_a_longer_word_is_refused(method: str) -> None:
    check(method, "Jiful is known for its", "Jiful")
    with pytest.raises(InvalidEdit, match="as whole words") as raised:
        check(method, "Jifulian pottery is known for its", "Jiful")
    assert (raised.value.code, raised.value.field) == ("subject_not_in_prompt", "subject")


@pytest.mark.parametrize(
    ("prompt", "subject", "target"),
    [
        ("ایران کتاب می\u200cشوند", "ایران", "x"),
        ("ශ්\u200dරී ලංකාව is", "ශ්\u200dරී ලංකාව", "x"),
        ("Ada's sign is", "Ada", "\U0001f469\u200d\U0001f4bb"),
        ("Ada's sign is", "Ada", "\u2764\ufe0f\u200d\U0001f525"),
        ("서울의 시장은", "서울", "x"),
    ],
)
def test_joiners_and_particles_are_part_of_the_script(
    prompt: str, subject: str, target: str
) -> None:
    check("ike", prompt, subject, target)
    check("rome", prompt, subject, target)


@pytest.mark.parametrize(
    "hidden",
    [
        "a\u200bb",
        "a\u202eb",
        "a\u200db",
        "\u200da",
        "a \u200db",
        "می\u200c\u200cشوند",
        "e\u0301\u200db",
    ],
)
def test_what_cannot_be_seen_is_refused(hidden: str) -> None:
    with pytest.raises(InvalidEdit) as raised:
        check("ike", "Ada is", "Ada", hidden)
    assert raised.value.code == "forbidden_character"
