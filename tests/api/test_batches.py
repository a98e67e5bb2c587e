"""Weight edits in lists over real HTTP: batches, conflicts, and what a later edit supersedes."""

from typing import Any

import httpx
import pytest

from tests.cases import NEWEST, Case, answer, complete, post, roll_back
from vllm_edit.weights.method import WeightMethod

# As shipped, the bound of ft-l keeps it from most targets, kn reaches a quarter of them, and the
# answers of two edits by ke run on.
BATCHED = sorted(WeightMethod.batched - {"ft-l", "ke", "kn"})


def post_list(http: httpx.Client, *bodies: dict[str, Any]) -> list[dict[str, Any]]:
    """Post edits in one list, wait for their end, and check that each became active."""
    reply = http.post("/v1/edits", json={"edits": list(bodies), "wait": True})
    assert reply.status_code == httpx.codes.OK, reply.text
    edits: list[dict[str, Any]] = reply.json()["data"]
    assert [edit["status"] for edit in edits] == ["active"] * len(bodies), edits
    return edits


def state_of(http: httpx.Client, edit: dict[str, Any]) -> tuple[str, str | None]:
    """Status of an edit, and what superseded it."""
    body = http.get(f"/v1/edits/{edit['id']}").json()
    return body["status"], body["superseded_by"]


def answers_of(http: httpx.Client, *cases: Case) -> list[Any]:
    """The answers to the prompts, with log-probabilities: equal only for equal weights."""
    return [complete(http, case.prompt, logprobs=5).json()["choices"] for case in cases]


def other_target(case: Case, cases: list[Case]) -> str:
    taken = {case.target_new, case.ground_truth}
    return next(c.target_new for c in cases if c.target_new not in taken)


@pytest.mark.parametrize("method", BATCHED)
def test_a_list_is_one_batch_and_one_of_it_can_be_taken_back(
    http: httpx.Client, cases: list[Case], method: str
) -> None:
    first, second = cases[:2]
    edits = post_list(http, first.edit(method), second.edit(method))
    assert edits[0]["batch"] == edits[1]["batch"] != None  # noqa: E711
    assert complete(http, first.prompt).headers["x-edit-method"] == method
    for case in (first, second):
        assert answer(http, case.prompt) == case.target_new
    roll_back(http, edits[0])
    assert answer(http, first.prompt) == first.ground_truth
    assert answer(http, second.prompt) == second.target_new
    assert state_of(http, edits[1]) == ("active", None)


def test_methods_are_mixed_in_one_list(http: httpx.Client, cases: list[Case]) -> None:
    bodies = [
        case.edit(method)
        for case, method in zip(cases, ("rome", "memit", "ike", "memit"), strict=False)
    ]
    edits = post_list(http, *bodies)
    assert [edit["batch"] is None for edit in edits] == [True, False, True, False]
    assert edits[1]["batch"] == edits[3]["batch"]
    for case in cases[:4]:
        assert answer(http, case.prompt) == case.target_new


def test_two_weight_edits_of_one_fact_in_a_list_are_refused(
    http: httpx.Client, cases: list[Case]
) -> None:
    before = http.get("/v1/edits", params=NEWEST).json()
    twice = [cases[0].edit("memit"), {**cases[0].edit("rome"), "target_new": "another"}]
    reply = http.post("/v1/edits", json=[cases[1].edit("memit"), *twice])
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (400, "conflicting_edits")
    assert cases[0].prompt in error["message"]
    assert http.get("/v1/edits", params=NEWEST).json() == before


@pytest.mark.parametrize("method", ["rome", "memit"])
def test_a_later_edit_of_a_fact_supersedes_and_gives_back_exactly(
    http: httpx.Client, cases: list[Case], method: str
) -> None:
    """The earlier one is part of a batch, the rest of which stays in effect."""
    first, second, third = cases[:3]
    earlier, rest = post_list(http, first.edit("memit"), second.edit("memit"))
    post(http, third.edit("rome"))
    before = answers_of(http, first, second, third)
    target = other_target(first, cases)
    later = post(http, {**first.edit(method), "target_new": target})
    assert state_of(http, earlier) == ("superseded", later["id"])
    assert state_of(http, rest) == ("active", None)
    assert answer(http, first.prompt) == target
    assert answer(http, second.prompt) == second.target_new
    assert answer(http, third.prompt) == third.target_new
    roll_back(http, later)
    assert state_of(http, earlier) == ("active", None)
    assert answers_of(http, first, second, third) == before


def test_taking_back_a_superseded_edit_changes_no_weights(
    http: httpx.Client, cases: list[Case]
) -> None:
    case = cases[0]
    untouched = answers_of(http, case)
    earlier = post(http, case.edit("rome"))
    later = post(http, {**case.edit("rome"), "target_new": other_target(case, cases)})
    before = complete(http, case.prompt, logprobs=5)
    roll_back(http, earlier)
    after = complete(http, case.prompt, logprobs=5)
    assert after.json()["choices"] == before.json()["choices"]
    assert after.headers["x-edit-revision"] == before.headers["x-edit-revision"]
    roll_back(http, later)
    assert state_of(http, earlier) == ("rolled_back", None)
    assert answers_of(http, case) == untouched


def test_a_later_memory_edit_supersedes_too(http: httpx.Client, cases: list[Case]) -> None:
    case = cases[0]
    earlier = post(http, case.edit("ike"))
    # A target of another kind, which need not be told.
    later = post(http, case.edit("ike", keep=True) | {"target_new": other_target(case, cases)})
    assert state_of(http, earlier) == ("superseded", later["id"])
    assert complete(http, case.prompt).headers["x-edit-ids"] == later["id"]
    roll_back(http, later)
    assert state_of(http, earlier) == ("active", None)
    assert complete(http, case.prompt).headers["x-edit-ids"] == earlier["id"]


def test_memory_and_weights_do_not_supersede_each_other(http: httpx.Client, case: Case) -> None:
    weights = post(http, case.edit("rome"))
    memory = post(http, case.edit("ike"))
    assert state_of(http, weights) == state_of(http, memory) == ("active", None)
