"""Probes that are made for an edit: its prompt behind other text, and what it is not about."""

from collections.abc import Iterable, Sequence
from itertools import islice

from vllm_edit.domain.edit import Edit, EditRequest

PREFIXES = (
    "It had been raining since the morning. ",
    "There was not much more to say about that. ",
    "The letter arrived two days later. ",
)
"""Sentences about nothing: behind each of them the edit's prompt should be answered the same.

Other wordings of a prompt cannot be made without knowing its language and form; text in front, as
ROME has it in its contexts, suits every prompt.
"""

MOST_NEIGHBOURS = 8


def rephrasings(request: EditRequest) -> tuple[str, ...]:
    """Prompts with the same answer as the edit's."""
    return tuple(prefix + request.prompt for prefix in PREFIXES)


def others(
    coming: Sequence[Edit], live: Iterable[Edit], controls: Sequence[str]
) -> tuple[str, ...]:
    """Prompts about none of the subjects of those coming: controls, and of the first live edits."""
    subjects = {edit.request.subject.casefold() for edit in coming}

    def apart(text: str) -> bool:
        plain = text.casefold()
        return not any(subject in plain for subject in subjects)

    known = (e.request for e in live if apart(f"{e.request.prompt}\n{e.request.subject}"))
    near = [request.prompt for request in islice(known, MOST_NEIGHBOURS)]
    return tuple(dict.fromkeys([*filter(apart, controls), *near]))
