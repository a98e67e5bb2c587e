"""Events about edits, and the edits folded from them."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from vllm_edit.domain.edit import Edit, EditRequest, Failure, Proposal, Status, Step
from vllm_edit.domain.json_values import from_json
from vllm_edit.domain.own_answers import OwnAnswers
from vllm_edit.domain.probe import Score
from vllm_edit.ledger.chain import ERASED
from vllm_edit.ledger.event import Entry, Event

_NO_TEXTS: dict[str, Any] = {
    "prompt": "",
    "subject": "",
    "target_new": "",
    "ground_truth": None,
    "aliases": [],
    "user": None,
}

EDIT = "edit"
"""The kind of events that are about an edit."""


def proposal_entry(proposal: Proposal) -> Entry:
    """A new edit."""
    request = asdict(proposal.request)
    del request["probes"]  # versions without probes do not know the field
    if proposal.request.probes is not None:
        request["probes"] = proposal.request.probes.as_json()
    if not proposal.request.keep:
        del request["keep"]  # nor do versions that kept every edit
    detail: dict[str, Any] = {"request": request}
    if proposal.batch:
        detail["batch"] = proposal.batch
    return Entry(EDIT, proposal.id, Status.PROPOSED.value, detail)


def step_entry(step: Step) -> Entry:
    """An edit enters a status."""
    detail: dict[str, Any] = {}
    if step.failure:
        detail["failure"] = asdict(step.failure)
    if step.scores:
        detail["scores"] = [_score(score) for score in step.scores]
    if step.told:
        detail["told"] = asdict(step.told)
    if step.superseded_by:
        detail["superseded_by"] = step.superseded_by
    return Entry(EDIT, step.edit_id, step.status.value, detail)


def fold_edit(edit: Edit | None, event: Event) -> Edit:
    """The edit after an event; ``edit`` is the one before, None for an unknown id.

    Raises KeyError or ValueError for an event that makes no sense.
    """
    detail = event.detail
    if "request" in detail:
        return Edit(
            id=event.subject,
            request=from_json(EditRequest, detail["request"]),
            status=Status(event.status),
            proposed=event.revision,
            revision=event.revision,
            created_at=event.at,
            updated_at=event.at,
            batch=detail.get("batch"),
            erased=ERASED in detail,
        )
    if edit is None:
        raise KeyError(event.subject)
    return replace(
        edit,
        status=Status(event.status),
        revision=event.revision,
        updated_at=event.at,
        failure=from_json(Failure, detail["failure"]) if "failure" in detail else None,
        superseded_by=detail.get("superseded_by"),
        scores=tuple(from_json(Score, s) for s in detail.get("scores", ())) or edit.scores,
        told=from_json(OwnAnswers, detail["told"]) if "told" in detail else edit.told,
    )


def without_texts(detail: Mapping[str, Any]) -> dict[str, Any]:
    """The detail of an edit's event without what a client or the model has written."""
    kept = {name: value for name, value in detail.items() if name not in ("told", "request")}
    if "request" in detail:
        kept["request"] = detail["request"] | _NO_TEXTS
        kept["request"].pop("probes", None)
    if "failure" in detail:
        kept["failure"] = detail["failure"] | {"message": ""}
    return kept


def erased_edit(edit: Edit, event: Event) -> Edit:
    """The edit after the event that its texts were erased."""
    request = replace(edit.request, **_NO_TEXTS, probes=None)
    failure = replace(edit.failure, message="") if edit.failure else None
    return replace(
        edit,
        request=replace(request, aliases=()),
        revision=event.revision,
        updated_at=event.at,
        failure=failure,
        told=None,
        erased=True,
    )


def _score(score: Score) -> dict[str, Any]:
    fields = asdict(score)
    if not score.unsteady:
        del fields["unsteady"]  # older versions do not know the field
    return fields
