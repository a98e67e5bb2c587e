"""Jobs: edits that take effect together, and how a failed job is tried again in parts."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import chain, groupby

from vllm_edit.domain.edit import Edit
from vllm_edit.domain.errors import AnsweredBadly, ComputeFailed, EditError, StoreError


def group_by(edits: Sequence[Edit], key: Callable[[Edit], Hashable]) -> list[list[Edit]]:
    """The edits grouped by a key, in the order in which the keys first appear."""
    groups: dict[Hashable, list[Edit]] = {}
    for edit in edits:
        groups.setdefault(key(edit), []).append(edit)
    return list(groups.values())


def reasons_of(error: EditError, job: Sequence[Edit]) -> Mapping[str, str]:
    """By id, the edits of the job that the error names as its cause, with the reasons."""
    if not isinstance(error, ComputeFailed):
        return {}
    return {edit.id: error.reasons[edit.id] for edit in job if edit.id in error.reasons}


def retries(job: Sequence[Edit], error: EditError) -> list[list[Edit]]:
    """The smaller jobs that a failed one is to be tried as; empty if that is no use.

    If the error names no edits, every batch and every single edit is tried by itself. If the
    server answered badly, each one with a named edit is tried by itself and the others in runs
    between them.
    """
    parts = group_by(job, lambda edit: edit.group)
    if len(parts) == 1 or isinstance(error, StoreError):
        return []
    reasons = reasons_of(error, job)
    if not reasons:
        return parts
    if not isinstance(error, AnsweredBadly) or not error.retry_alone:
        return []
    jobs: list[list[Edit]] = []
    for faulty, run in groupby(parts, lambda part: any(edit.id in reasons for edit in part)):
        group = [*run]
        jobs += group if faulty else [[*chain.from_iterable(group)]]
    return jobs
