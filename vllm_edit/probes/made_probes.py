"""Probes that the server makes for an edit: its prompt after other text, and unrelated prompts."""

from collections.abc import Iterable, Sequence
from itertools import islice

from vllm_edit.domain.edit import Edit, EditRequest

PREFIXES = (
    "It had been raining since the morning. ",
    "There was not much more to say about that. ",
    "The letter arrived two days later. ",
)
"""Neutral sentences: the answer to the edit's prompt should be the same after each of them.

To reword a prompt one must know its language and form. Text in front suits every prompt; ROME
does the same with its contexts.
"""

MOST_NEIGHBOURS = 8


def rephrasings(request: EditRequest) -> tuple[str, ...]:
    """Prompts with the same answer as the edit's."""
    return tuple(prefix + request.prompt for prefix in PREFIXES)


def unrelated_prompts(
    edits: Sequence[Edit], active: Iterable[Edit], controls: Sequence[str]
) -> tuple[str, ...]:
    """Controls and prompts of the first ``active`` edits that name no subject of ``edits``."""
    subjects = {edit.request.subject.casefold() for edit in edits}

    def is_unrelated(text: str) -> bool:
        folded = text.casefold()
        return not any(subject in folded for subject in subjects)

    requests = (edit.request for edit in active)
    neighbours = (r.prompt for r in requests if is_unrelated(f"{r.prompt}\n{r.subject}"))
    return tuple(
        dict.fromkeys([*filter(is_unrelated, controls), *islice(neighbours, MOST_NEIGHBOURS)])
    )
