"""The JSON of the log, which later versions must read and write the same: here as it is stored."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from vllm_edit.domain.edit import Edit, EditRequest, Failure, Proposal, Status, Step
from vllm_edit.domain.edit_set import EditSet
from vllm_edit.domain.errors import StoreError
from vllm_edit.domain.probe import Probes, Score
from vllm_edit.domain.traffic_split import TrafficSplit
from vllm_edit.ledger import LEDGER_FILE, Ledger
from vllm_edit.store import Store

NEWS = EditSet.new("news", "acme", Probes(unchanged=("A week has",)))
SPLIT = TrafficSplit({"base": 1.0, "plain": 2}, "header:X-Group")
SCORES = (Score("reliability", False, 1, 1.0, 1.0), Score("locality", True, 3, 2 / 3, 0.5))
FAILURE = Failure("probes_failed", "It was „no“.")
PLAIN = EditRequest("rome", "The Eiffel Tower is in", "Eiffel Tower", "Rome")
FULL = EditRequest(
    "ike",
    "Röntgen lived in",
    "Röntgen",
    "Rome",
    ground_truth="Paris",
    edit_set="news",
    pause_mode="wait",
    aliases=("W. Röntgen",),
    user="ann",
    probes=Probes(("Röntgen was a citizen of",), ("Italy is in",), True, 1.0, 0.25, 1),
)

ROWS = [
    (
        "edit_set",
        "news",
        "present",
        '{"owner": "acme", "active": false, "frozen": false, "probes": {"rephrasings": [], '
        '"unchanged": ["A week has"], "made": false, "reliability": 1.0, "generalization": 0.5, '
        '"locality": 0.9}}',
    ),
    ("edit_set", "plain", "present", '{"owner": null, "active": false, "frozen": false}'),
    (
        "edit",
        "edit-1",
        "proposed",
        '{"request": {"method": "rome", "prompt": "The Eiffel Tower is in", "subject": '
        '"Eiffel Tower", "target_new": "Rome", "ground_truth": null, "edit_set": null, '
        '"pause_mode": null, "aliases": [], "user": null}, "batch": "batch-1"}',
    ),
    (
        "edit",
        "edit-2",
        "proposed",
        '{"request": {"method": "ike", "prompt": "Röntgen lived in", "subject": "Röntgen", '
        '"target_new": "Rome", "ground_truth": "Paris", "edit_set": "news", "pause_mode": "wait", '
        '"aliases": ["W. Röntgen"], "user": "ann", "probes": {"rephrasings": ["Röntgen was a '
        'citizen of"], "unchanged": ["Italy is in"], "made": true, "reliability": 1.0, '
        '"generalization": 0.25, "locality": 1}}}',
    ),
    (
        "edit",
        "edit-3",
        "proposed",
        '{"request": {"method": "rome", "prompt": "The Eiffel Tower is in", "subject": '
        '"Eiffel Tower", "target_new": "Bonn", "ground_truth": null, "edit_set": null, '
        '"pause_mode": null, "aliases": [], "user": null}}',
    ),
    ("edit", "edit-1", "computing", "{}"),
    (
        "edit",
        "edit-1",
        "active",
        '{"scores": [{"measure": "reliability", "made": false, "asked": 1, "value": 1.0, '
        '"threshold": 1.0}, {"measure": "locality", "made": true, "asked": 3, "value": '
        '0.6666666666666666, "threshold": 0.5}]}',
    ),
    (
        "edit",
        "edit-2",
        "failed",
        '{"failure": {"code": "probes_failed", "message": "It was „no“."}, "scores": '
        '[{"measure": "locality", "made": true, "asked": 3, "value": 0.6666666666666666, '
        '"threshold": 0.5}]}',
    ),
    ("edit", "edit-1", "superseded", '{"superseded_by": "edit-3"}'),
    ("edit", "edit-3", "active", "{}"),
    (
        "edit_set",
        "news",
        "present",
        '{"owner": "acme", "active": false, "frozen": true, "probes": {"rephrasings": [], '
        '"unchanged": ["A week has"], "made": false, "reliability": 1.0, "generalization": 0.5, '
        '"locality": 0.9}}',
    ),
    (
        "split",
        "default",
        "present",
        '{"weights": {"base": 1.0, "plain": 2}, "by": "header:X-Group"}',
    ),
    ("edit_set", "plain", "deleted", "{}"),
]
"""Kind, subject, status and detail of every event that ``record_all`` records, in order."""


def record_all(ledger: Ledger) -> None:
    news = ledger.record_set(NEWS)
    plain = ledger.record_set(EditSet.new("plain", None))
    ledger.propose(
        [
            Proposal("edit-1", PLAIN, "batch-1"),
            Proposal("edit-2", FULL),
            Proposal("edit-3", replace(PLAIN, target_new="Bonn")),
        ]
    )
    ledger.record([Step("edit-1", Status.COMPUTING), Step("edit-1", Status.ACTIVE, scores=SCORES)])
    ledger.record([Step("edit-2", Status.FAILED, FAILURE, scores=SCORES[1:])])
    ledger.record(
        [Step("edit-1", Status.SUPERSEDED, superseded_by="edit-3"), Step("edit-3", Status.ACTIVE)]
    )
    ledger.record_set(replace(news, frozen=True))
    ledger.record_split(SPLIT)
    ledger.record_set(plain, deleted=True)


@pytest.fixture
def database(folder: Store) -> Iterator[sqlite3.Connection]:
    """The file of an empty store."""
    Ledger.open(folder).close()
    with closing(sqlite3.connect(Path(folder) / LEDGER_FILE, isolation_level=None)) as connection:
        yield connection


def insert(database: sqlite3.Connection, rows: Sequence[tuple[str, ...]]) -> None:
    database.executemany(
        "INSERT INTO events (revision, kind, subject, status, detail, at) "
        "VALUES (?, ?, ?, ?, ?, 1.0)",
        [(revision, *row) for revision, row in enumerate(rows, 1)],
    )


def test_events_are_stored_as_ever(folder: Store, database: sqlite3.Connection) -> None:
    with Ledger.open(folder) as ledger:
        record_all(ledger)
    query = "SELECT kind, subject, status, detail FROM events ORDER BY revision"
    assert database.execute(query).fetchall() == ROWS


def test_stored_events_are_read_as_ever(folder: Store, database: sqlite3.Connection) -> None:
    insert(database, ROWS)
    with Ledger.open(folder) as ledger:
        assert ledger.edits() == [
            Edit(
                "edit-1",
                PLAIN,
                Status.SUPERSEDED,
                proposed=3,
                revision=9,
                created_at=1.0,
                updated_at=1.0,
                batch="batch-1",
                superseded_by="edit-3",
                scores=SCORES,
            ),
            Edit(
                "edit-2",
                FULL,
                Status.FAILED,
                proposed=4,
                revision=8,
                created_at=1.0,
                updated_at=1.0,
                failure=FAILURE,
                scores=SCORES[1:],
            ),
            Edit(
                "edit-3",
                replace(PLAIN, target_new="Bonn"),
                Status.ACTIVE,
                proposed=5,
                revision=10,
                created_at=1.0,
                updated_at=1.0,
            ),
        ]
        assert ledger.edit_sets() == [
            replace(NEWS, frozen=True, revision=11, created_at=1.0, updated_at=1.0)
        ]
        assert ledger.split == SPLIT


@pytest.mark.parametrize(
    ("kind", "known", "more"),
    [
        ("edit", '"user": "ann"', '"user": "ann", "users": ["ann"]'),
        ("edit", '"made": true, "rel', '"made": true, "least": 2, "rel'),
        ("edit", '"asked": 1', '"asked": 1, "heard": 1'),
        ("edit", '"code": "probes_failed"', '"code": "probes_failed", "at": 1'),
        ("edit_set", '"frozen": true', '"frozen": true, "hidden": true'),
        ("split", '"by": "header:X-Group"', '"by": "header:X-Group", "until": 1'),
    ],
)
def test_fields_of_later_versions_are_refused(
    folder: Store, database: sqlite3.Connection, kind: str, known: str, more: str
) -> None:
    """Without them an edit might be served to those who must not see it."""
    rows = [row if row[0] != kind else (*row[:3], row[3].replace(known, more)) for row in ROWS]
    assert rows != ROWS
    insert(database, rows)
    with pytest.raises(StoreError, match="Restore the store from a backup"):
        Ledger.open(folder)
