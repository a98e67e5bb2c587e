"""The memory of one variant."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from retriever import Fact, Feedback, FeedbackMemory, Retriever
from retriever.text import mask
from vllm_edit.domain.edit import Edit, EditRequest

MEMPROMPT = "memprompt"


@dataclass(frozen=True)
class VariantMemory:
    """The variant's facts and feedback, and by id the ``edits`` that they come from."""

    facts: Retriever
    feedback: FeedbackMemory
    edits: dict[str, Edit] = field(default_factory=dict)

    def empty_copy(self) -> "VariantMemory":
        """An empty memory with the same models and settings."""
        return VariantMemory(self.facts.empty_copy(), self.feedback.empty_copy())

    def __len__(self) -> int:
        return len(self.facts) + len(self.feedback)

    def add(self, edits: Sequence[Edit]) -> None:
        """Add edits, oldest first: all of them or, on an error, none."""
        feedback = [edit for edit in edits if edit.request.method == MEMPROMPT]
        facts = [edit for edit in edits if edit.request.method != MEMPROMPT]
        self.facts.add_many([fact_of(edit.id, edit.request) for edit in facts])
        self.edits.update({edit.id: edit for edit in facts})
        try:
            self.feedback.add_many([_feedback(edit) for edit in feedback])
        except BaseException:
            self.discard(facts)
            raise
        self.edits.update({edit.id: edit for edit in feedback})

    def discard(self, edits: Sequence[Edit]) -> None:
        """Remove those of the edits that are there."""
        for edit in edits:
            if self.edits.pop(edit.id, None) is None:
                continue
            if edit.request.method == MEMPROMPT:
                self.feedback.remove(edit.id)
            else:
                self.facts.remove(edit.id)


def fact_of(fact_id: str, request: EditRequest) -> Fact:
    """The fact that an edit states."""
    return Fact(
        id=fact_id,
        subject=request.subject,
        prompt=request.prompt,
        target_new=request.target_new,
        ground_truth=request.ground_truth,
        aliases=request.aliases,
        method=request.method,
    )


def _feedback(edit: Edit) -> Feedback:
    request = edit.request
    # Questions of one kind differ in their subject only.
    kind = mask(request.prompt, request.subject, "").strip()
    return Feedback(edit.id, kind or request.prompt, request.target_new, request.user)
