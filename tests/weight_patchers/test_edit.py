import pytest

from weight_patchers import Edit
from weight_patchers.errors import InvalidEdit


def test_surrounding_blanks_are_dropped() -> None:
    edit = Edit("Anna was born in", " Anna ", " Oslo ")
    assert (edit.subject, edit.target_new) == ("Anna", "Oslo")


@pytest.mark.parametrize(
    ("prompt", "subject", "target", "complaint"),
    [
        ("Anna was born in", "Bert", "Oslo", "does not contain"),
        ("Anna was born in", "anna", "Oslo", "does not contain"),
        ("Anna was born in", "Anna", " ", "target_new is empty"),
        ("Anna was born in", "", "Oslo", "subject is empty"),
        ("", "Anna", "Oslo", "prompt is empty"),
    ],
)
def test_what_cannot_be_edited_is_refused(
    prompt: str, subject: str, target: str, complaint: str
) -> None:
    with pytest.raises(InvalidEdit, match=complaint):
        Edit(prompt, subject, target)
