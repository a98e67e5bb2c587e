"""Edits of a method that trains its live set, over real HTTP: each change trains all of them."""

from pathlib import Path

import httpx

from tests.cases import Case, answer, post, roll_back
from tests.crash.replay import digests

METHOD = "ft-bf"


def test_only_the_edits_that_are_live_count(
    own: httpx.Client, facts: list[Case], store: Path
) -> None:
    """Not their order, and not those that were there before: to the bit."""
    first, second = facts[:2]
    deltas = store / "deltas"
    base = digests(own)
    only = post(own, second.edit(METHOD))
    alone = digests(own)
    roll_back(own, only)
    assert digests(own) == base

    edits = [post(own, case.edit(METHOD)) for case in (first, second)]
    for case in (first, second):
        assert answer(own, case.prompt) == case.target_new
    both = digests(own)
    assert len(list(deltas.iterdir())) == 1
    roll_back(own, edits[0])
    assert answer(own, first.prompt) == first.ground_truth
    assert answer(own, second.prompt) == second.target_new
    assert digests(own) == alone
    again = post(own, first.edit(METHOD))
    assert digests(own) == both
    roll_back(own, edits[1])
    roll_back(own, again)
    assert digests(own) == base
    assert not list(deltas.iterdir())


def test_an_active_edit_set_has_a_live_set_beside_that_of_default_traffic(
    own: httpx.Client, facts: list[Case]
) -> None:
    first, second = facts[:2]
    post(own, first.edit(METHOD))
    before = digests(own)
    own.post("/v1/edit-sets", json={"name": "tuned"}).raise_for_status()
    own.patch("/v1/edit-sets/tuned", json={"active": True}).raise_for_status()
    post(own, second.edit(METHOD, edit_set="tuned"))
    for case in (first, second):
        assert answer(own, case.prompt) == case.target_new
    own.patch("/v1/edit-sets/tuned", json={"active": False}).raise_for_status()
    assert digests(own) == before
    own.delete("/v1/edit-sets/tuned").raise_for_status()
