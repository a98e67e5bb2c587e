"""Probes and their scores in the ledger, and logs from before there were any."""

import json
import sqlite3
from dataclasses import replace
from pathlib import Path

from vllm_edit.domain.edit import EditRequest, Failure, Proposal, Status, Step
from vllm_edit.domain.edit_set import EditSet
from vllm_edit.domain.probe import Probes, Score
from vllm_edit.ledger import Ledger
from vllm_edit.store import Store

PROBES = Probes(("Of X:",), ("Of Y:", "Of Z:"), made=True, locality=0.5)
PLAIN = EditRequest("ike", "The capital of X is", "X", "Y", aliases=("x",))
JUDGED = replace(PLAIN, probes=PROBES)
SCORES = (Score("reliability", False, 1, 1.0, 1.0), Score("locality", False, 2, 0.5, 0.9))


def test_probes_and_scores_are_there_after_reopening(store: Store) -> None:
    with Ledger.open(store) as ledger:
        ledger.propose([Proposal("a", JUDGED), Proposal("b", JUDGED), Proposal("c", PLAIN)])
        ledger.record([Step("a", Status.ACTIVE, scores=SCORES)])
        failure = Failure("probes_failed", "a reason")
        ledger.record([Step("b", Status.FAILED, failure, scores=SCORES[:1])])
        ledger.record([Step("a", Status.SUPERSEDED, superseded_by="c")])
        ledger.record_set(EditSet.new("news", None, PROBES))
        ledger.record_set(EditSet.new("plain", None))
        before, sets = ledger.edits(), ledger.edit_sets()
    with Ledger.open(store) as ledger:
        assert (ledger.edits(), ledger.edit_sets()) == (before, sets)
        assert [edit.request for edit in before] == [JUDGED, JUDGED, PLAIN]
        assert [edit.scores for edit in before] == [SCORES, SCORES[:1], ()]
        assert [edit_set.probes for edit_set in sets] == [PROBES, None]
        ledger.record_set(replace(ledger.edit_set("news"), active=True))
        assert ledger.edit_set("news").probes == PROBES


def test_what_has_no_probes_is_written_as_ever(folder: Store) -> None:
    """So a log without any is one that older versions read, and theirs one for this."""
    with Ledger.open(folder) as ledger:
        ledger.propose([Proposal("a", PLAIN)])
        ledger.record([Step("a", Status.ACTIVE)])
        ledger.record_set(EditSet.new("news", None))
    database = sqlite3.connect(Path(folder) / "ledger.sqlite3")
    rows = database.execute("SELECT detail FROM events ORDER BY revision").fetchall()
    database.close()
    proposal, active, edit_set = (json.loads(detail) for (detail,) in rows)
    assert "probes" not in proposal["request"]
    assert active == {}
    assert edit_set.keys() == {"owner", "active", "frozen"}
