"""Edits of a method that trains its live set, over real HTTP: each change trains all of them."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.cases import Case, answer, known_cases, post, roll_back
from tests.crash.replay import digests
from tests.crash.servers import ForkedServer, Zygote

METHOD = "ft-bf"


@pytest.fixture(scope="module")
def deltas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server keeps its deltas."""
    return tmp_path_factory.mktemp("live-sets") / "store" / "deltas"


@pytest.fixture(scope="module")
def forked(zygote: Zygote, deltas: Path) -> Iterator[ForkedServer]:
    store = deltas.parent
    with ForkedServer(zygote, store, store.with_suffix(".log")) as server:
        assert server.answers()
        yield server


@pytest.fixture
def own(forked: ForkedServer) -> Iterator[httpx.Client]:
    with forked.client() as client:
        yield client
        for edit in client.get("/v1/edits").json()["data"]:
            if edit["status"] not in ("failed", "rolled_back"):
                client.delete(f"/v1/edits/{edit['id']}")


@pytest.fixture(scope="module")
def facts(forked: ForkedServer) -> list[Case]:
    return known_cases(forked.url)


def test_only_the_edits_that_are_live_count(
    own: httpx.Client, facts: list[Case], deltas: Path
) -> None:
    """Not their order, and not those that were there before: to the bit."""
    first, second = facts[:2]
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
