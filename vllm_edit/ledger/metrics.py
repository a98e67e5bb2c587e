"""Metrics about what is recorded."""

from collections import Counter

from prometheus_client import Gauge

from vllm_edit.domain.edit import Status

EDITS = Gauge(
    "vllm_edit_edits", "Edits on record, by status", ["status"], multiprocess_mode="livemax"
)
RECORDED = Gauge(
    "vllm_edit_revision_recorded",
    "Revision of the latest change that this server has read or made",
    multiprocess_mode="livemax",
)


def show(edits: Counter[Status], revision: int) -> None:
    """Show how many edits have each status, and the latest revision."""
    for status in set(Status) - {Status.WAITING}:  # of which the ledger knows nothing
        EDITS.labels(status.value).set(edits[status])
    RECORDED.set(revision)
