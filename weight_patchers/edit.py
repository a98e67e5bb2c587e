"""The edit: one fact to be changed."""

from dataclasses import dataclass

from weight_patchers.errors import InvalidEdit


@dataclass(frozen=True)
class Edit:
    """After `prompt`, which contains `subject` literally, the model shall say `target_new`.

    Surrounding blanks of the target carry no meaning and are dropped.
    Raises InvalidEdit when a field is blank or the subject is not part of the prompt.
    """

    prompt: str
    subject: str
    target_new: str

    def __post_init__(self) -> None:
        for field in ("prompt", "subject", "target_new"):
            value = getattr(self, field)
            if not isinstance(value, str) or not value.strip():
                raise InvalidEdit(f"{field} is empty: give a text with at least one visible letter")
        object.__setattr__(self, "subject", self.subject.strip())
        object.__setattr__(self, "target_new", self.target_new.strip())
        if self.subject not in self.prompt:
            raise InvalidEdit(
                f"the prompt {self.prompt!r} does not contain the subject {self.subject!r}: "
                "write the subject in the prompt exactly as in the subject field"
            )
