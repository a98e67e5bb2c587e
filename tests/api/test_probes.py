"""Edits judged by what the real server answers, and taken back by themselves, over real HTTP."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cases import MODEL, NEWEST, Case, answer, complete, post, text_of
from tests.crash.servers import ForkedServer, Zygote
from vllm_edit.domain.edit import EditRequest, Proposal
from vllm_edit.domain.probe import Probes
from vllm_edit.ledger import Ledger

METHODS = ["ike", "rome", "serac"]


def submit(http: httpx.Client, *bodies: dict[str, Any]) -> list[dict[str, Any]]:
    reply = http.post("/v1/edits", json={"edits": bodies, "wait": True})
    assert reply.status_code == httpx.codes.OK, reply.text
    edits: list[dict[str, Any]] = reply.json()["data"]
    return edits


def answers_of(http: httpx.Client, case: Case, **more: Any) -> list[Any]:
    """Answers with log-probabilities, which are equal only for equal weights."""
    prompts = (case.prompt, case.rephrase_prompt, case.locality_prompt)
    return [complete(http, p, logprobs=5, **more).json()["choices"] for p in prompts]


def metrics(http: httpx.Client) -> dict[str, float]:
    lines = http.get("/metrics").text.splitlines()
    pairs = (line.rpartition(" ") for line in lines if line.startswith("vllm_edit_"))
    return {name: float(value) for name, _, value in pairs}


def contradicted(case: Case) -> dict[str, Any]:
    """Probes that no edit of the fact can stand: another wording of it is to stay as it is."""
    return {"unchanged": [case.locality_prompt, case.rephrase_prompt]}


@pytest.mark.parametrize("method", METHODS)
def test_a_good_edit_is_active_and_shows_its_scores(
    http: httpx.Client, cases: list[Case], method: str
) -> None:
    case, other = cases[:2]
    post(http, other.edit(method))
    before = metrics(http)["vllm_edit_probes_total"]
    probes = {
        "rephrasings": [case.rephrase_prompt],
        "unchanged": [case.locality_prompt],
        "made": True,
        "locality": 0.8,
    }
    edit = post(http, case.edit(method, probes=probes))
    assert http.get(f"/v1/edits/{edit['id']}").json() == edit
    assert edit["probes"] | probes == edit["probes"]
    scores = {(s["measure"], s["made"]): (s["asked"], s["value"]) for s in edit["probes"]["scores"]}
    *_, (controls, kept) = scores.values()
    assert scores == {
        ("reliability", False): (1, 1.0),
        ("generalization", False): (1, 1.0),
        ("locality", False): (1, 1.0),
        ("generalization", True): (3, 1.0),
        ("locality", True): (controls, kept),
    }
    # The dozen, but for those about the subject itself, and the other edit.
    assert controls > 10
    assert kept >= 0.9
    assert metrics(http)["vllm_edit_probes_total"] == before + 5 + 3 * (1 + controls)


def test_drift_is_shown(http: httpx.Client, case: Case) -> None:
    name = 'vllm_edit_drift_nats{variant="default"}'
    edit = post(http, case.edit("rome"))
    assert 0 < edit["drift"] < 1
    assert edit["probes"] is None
    assert metrics(http)[name] == edit["drift"]
    taken = http.delete(f"/v1/edits/{edit['id']}").json()
    assert (taken["drift"], metrics(http)[name]) == (None, 0.0)
    assert post(http, case.edit("ike"))["drift"] is None


@pytest.mark.parametrize("method", METHODS)
def test_an_edit_that_changes_what_should_stay_is_taken_back(
    http: httpx.Client, case: Case, method: str
) -> None:
    before, failures = answers_of(http, case), metrics(http)["vllm_edit_probes_failed_edits_total"]
    (edit,) = submit(http, case.edit(method, probes=contradicted(case)))
    assert edit["status"] == "failed"
    assert edit["error"]["code"] == "probes_failed"
    for part in ("The locality", "0.50 (1 of 2)", "at least 0.90", repr(case.rephrase_prompt)):
        assert part in edit["error"]["message"]
    assert [s["value"] for s in edit["probes"]["scores"]] == [1.0, 0.5]
    assert answers_of(http, case) == before
    assert complete(http, case.prompt).headers["x-edit-method"] == ""
    assert metrics(http)["vllm_edit_probes_failed_edits_total"] == failures + 1
    assert http.get(f"/v1/edits/{edit['id']}").json() == edit


def test_what_cannot_be_asked_is_not_answered_right(http: httpx.Client, case: Case) -> None:
    """Here since the prompt leaves no room for an answer."""
    (edit,) = submit(http, case.edit("ike", probes={"rephrasings": ["?!" * 999]}))
    assert edit["error"]["code"] == "probes_failed"
    assert "could not be asked" in edit["error"]["message"]
    assert answer(http, case.prompt) == case.ground_truth


def test_the_one_before_it_is_served_again(http: httpx.Client, cases: list[Case]) -> None:
    case = cases[0]
    other = next(c.target_new for c in cases[1:] if c.target_new != case.target_new)
    first = post(http, case.edit("rome", probes={}))
    before = answers_of(http, case)
    (later,) = submit(http, {**case.edit("rome", probes=contradicted(case)), "target_new": other})
    assert later["error"]["code"] == "probes_failed"
    assert http.get(f"/v1/edits/{first['id']}").json()["status"] == "active"
    assert answers_of(http, case) == before


def test_one_of_a_batch_fails_alone(http: httpx.Client, cases: list[Case]) -> None:
    good, bad = cases[:2]
    edits = submit(http, good.edit("memit", probes={"made": True}), bad.edit(
        "memit", probes=contradicted(bad)
    ))  # fmt: skip
    assert [edit["status"] for edit in edits] == ["active", "failed"]
    assert answer(http, good.prompt) == good.target_new
    assert answer(http, bad.prompt) == bad.ground_truth


@pytest.mark.parametrize("method", ["ike", "rome"])
def test_a_set_has_probes_for_its_edits(http: httpx.Client, cases: list[Case], method: str) -> None:
    """They are asked of the set's variant, which default traffic sees nothing of."""
    case, other = cases[:2]
    probes = {"unchanged": [case.rephrase_prompt], "generalization": 1.0}
    reply = http.post("/v1/edit-sets", json={"name": "news", "probes": probes})
    assert reply.json()["probes"] | probes == reply.json()["probes"], reply.text
    before = answers_of(http, case, model=f"{MODEL}@news")
    (judged,) = submit(http, case.edit(method, edit_set="news"))
    assert judged["error"]["code"] == "probes_failed"
    assert judged["probes"]["unchanged"] == probes["unchanged"]
    assert answers_of(http, case, model=f"{MODEL}@news") == before
    (besides,) = submit(http, other.edit(method, edit_set="news"))
    assert [s["value"] for s in besides["probes"]["scores"]] == [1.0, 1.0]
    (own,) = submit(http, case.edit(method, edit_set="news", probes={"made": True}))
    assert (own["status"], own["probes"]["unchanged"]) == ("active", [])
    for each in (case, other):
        reply = complete(http, each.prompt, model=f"{MODEL}@news")
        assert text_of(reply.json()["choices"][0]["text"]) == each.target_new
        assert answer(http, each.prompt) == each.ground_truth


def test_a_set_is_judged_when_default_traffic_is_to_see_it(http: httpx.Client, case: Case) -> None:
    """Another edit there, which the set's own variant does not see, is in its way."""
    http.post("/v1/edit-sets", json={"name": "news"})
    probes = {"made": True, "locality": 0.8}
    edit = post(http, case.edit("rome", edit_set="news", keep=True, probes=probes))
    other = post(http, case.edit("ike", keep=True) | {"target_new": "nothing"})
    before = answers_of(http, case)
    refused = http.patch("/v1/edit-sets/news", json={"active": True})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "probes_failed")
    for part in ("'news' is not active", edit["id"], "The reliability", repr(case.prompt)):
        assert part in refused.json()["error"]["message"]
    assert answers_of(http, case) == before
    assert http.get("/v1/edit-sets/news").json()["active"] is False
    http.delete(f"/v1/edits/{other['id']}")
    http.patch("/v1/edit-sets/news", json={"active": True}).raise_for_status()
    assert answer(http, case.prompt) == case.target_new


TOO_MANY = ["Q"] * 33


@pytest.mark.parametrize(
    ("probes", "code"),
    [
        ([], "malformed"),
        ({"paraphrases": []}, "malformed"),
        ({"unchanged": "Q"}, "malformed"),
        ({"unchanged": TOO_MANY}, "malformed"),
        ({"locality": 1.5}, "malformed"),
        ({"locality": "1"}, "malformed"),
        ({"made": "yes"}, "malformed"),
        ({"rephrasings": [" "]}, "empty"),
        ({"unchanged": ["Q\0"]}, "forbidden_character"),
        ({"unchanged": ["Q" * 2001]}, "too_long"),
        ({"rephrasings": ["Q"], "unchanged": ["Q"]}, "contradictory_probes"),
    ],
)
def test_bad_probes_are_refused(http: httpx.Client, case: Case, probes: object, code: str) -> None:
    newest = http.get("/v1/edits", params=NEWEST).json()
    reply = http.post("/v1/edits", json=case.edit("ike", probes=probes))
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, code)
    assert "probes" in reply.json()["error"]["param"]
    assert http.get("/v1/edits", params=NEWEST).json() == newest


def test_what_cannot_be_judged_is_refused(http: httpx.Client, case: Case) -> None:
    reply = http.post("/v1/edits", json=case.edit("memprompt", probes={}))
    assert reply.json()["error"]["code"] == "probes_not_supported"
    for probes in ({"rephrasings": ["Q"]}, {"unchanged": ["\0"]}):
        reply = http.post("/v1/edit-sets", json={"name": "news", "probes": probes})
        assert reply.status_code == httpx.codes.BAD_REQUEST
        assert "probes" in reply.json()["error"]["param"]
    assert http.get("/v1/edit-sets").json()["data"] == []


@pytest.mark.slow
def test_edits_left_unfinished_are_judged_before_the_server_serves(
    cases: list[Case], zygote: Zygote, tmp_path: Path, log: Path
) -> None:
    """The model is asked although nobody else can ask it yet; a setting has the rest judged."""
    good, bad, tuned = cases[:3]
    with Ledger.open(str(tmp_path / "store")) as ledger:
        for name, case, probes in (
            ("good", good, Probes(made=True)),
            ("bad", bad, Probes(unchanged=(bad.rephrase_prompt,))),
        ):
            request = EditRequest("ike", case.prompt, case.subject, case.target_new, probes=probes)
            ledger.propose([Proposal(name, request)])
    controls = tmp_path / "controls.txt"
    controls.write_text(f"{bad.locality_prompt}\n\n{good.locality_prompt}\n")
    flags = [f"--edit-probe-controls={controls}", "--edit-probes=made"]
    with (
        ForkedServer(zygote, tmp_path / "store", log, flags=flags) as server,
        server.client() as client,
    ):
        assert server.answers()
        edits = {edit["id"]: edit for edit in client.get("/v1/edits").json()["data"]}
        assert (edits["good"]["status"], edits["bad"]["status"]) == ("active", "failed")
        assert edits["bad"]["error"]["code"] == "probes_failed"
        assert answer(client, good.prompt) == good.target_new
        assert answer(client, bad.prompt) == bad.ground_truth
        (edit,) = submit(client, tuned.edit("ft-m"))
        # Two controls, and the other edit.
        assert [score["asked"] for score in edit["probes"]["scores"]] == [1, 3, 3]
        assert post(client, bad.edit("ike"))["probes"] is None
