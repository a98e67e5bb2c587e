"""The edit: one fact to be changed."""

from collections.abc import Sequence
from dataclasses import dataclass

from weight_patchers.errors import ConflictingEdits, InvalidEdit
from weight_patchers.word_border import whole_places


@dataclass(frozen=True)
class Edit:
    """After `prompt`, which contains `subject`, the edited model says `target_new`.

    The prompt has the subject letter by letter and as whole words, see `word_border`.

    `ground_truth` is its answer before, if that is known. Surrounding blanks of the answers carry
    no meaning and are dropped. Raises InvalidEdit when a field is blank or the subject is not in
    the prompt.
    """

    prompt: str
    subject: str
    target_new: str
    ground_truth: str | None = None

    def __post_init__(self) -> None:
        for field in ("prompt", "subject", "target_new"):
            value = getattr(self, field)
            if not isinstance(value, str) or not value.strip():
                raise InvalidEdit(f"{field} is empty: give a text with at least one visible letter")
        object.__setattr__(self, "subject", self.subject.strip())
        object.__setattr__(self, "target_new", self.target_new.strip())
        object.__setattr__(self, "ground_truth", (self.ground_truth or "").strip() or None)
        if not any(True for _ in whole_places(self.prompt, self.subject)):
            raise InvalidEdit(
                f"the prompt {self.prompt!r} does not contain the subject {self.subject!r} as "
                "whole words: write the subject in the prompt exactly as in the subject field"
            )

    @property
    def conflict_key(self) -> tuple[str, str]:
        """Equal for two edits of one fact: the subject, and the prompt around it.

        Letter case and runs of blanks make no difference.
        """
        relation = "{}".join(self.prompt.rsplit(self.subject, maxsplit=1))
        return _plain(self.subject), _plain(relation)


def require_distinct(edits: Sequence[Edit]) -> None:
    """Raise ConflictingEdits when two edits change the same fact: no batch can satisfy both."""
    seen: dict[tuple[str, str], Edit] = {}
    for edit in edits:
        earlier = seen.setdefault(edit.conflict_key, edit)
        if earlier is not edit:
            raise ConflictingEdits(
                f"two edits change the same fact: {earlier.prompt!r} to {earlier.target_new!r} "
                f"and to {edit.target_new!r}: keep one of them"
            )


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
