"""Whether the real server tells its edits, asked as it serves, and what becomes of the others."""

import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.conftest import other_targets
from tests.cases import Case, answer, complete, post, roll_back
from tests.crash.replay import digests
from tests.crash.servers import ForkedServer, Zygote
from weight_patchers.wording import begins_with

METHODS = ["ike", "rome", "serac", "mello"]


def submit(client: httpx.Client, *bodies: dict[str, Any]) -> list[dict[str, Any]]:
    reply = client.post("/v1/edits", json={"edits": bodies, "wait": True})
    assert reply.status_code == httpx.codes.OK, reply.text
    edits: list[dict[str, Any]] = reply.json()["data"]
    return edits


def not_told(client: httpx.Client, method: str) -> float:
    name = f'vllm_edit_not_told{{method="{method}"}} '
    lines = client.get("/metrics").text.splitlines()
    return next((float(line.removeprefix(name)) for line in lines if line.startswith(name)), 0.0)


def get(client: httpx.Client, edit: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/v1/edits/{edit['id']}").json()
    return found


def asked_until(client: httpx.Client, edit: dict[str, Any], told: bool) -> dict[str, Any]:
    """The edit as soon as it has been asked again with this result."""
    deadline = time.monotonic() + 60.0
    while (now := get(client, edit))["told"] is not told:
        assert time.monotonic() < deadline, now
    return now


@pytest.mark.parametrize("method", METHODS)
def test_an_active_edit_shows_how_it_is_told(
    http: httpx.Client, cases: list[Case], method: str
) -> None:
    case = cases[0]
    edit = post(http, case.edit(method))
    assert (edit["told"], edit["keep"]) == (True, False)
    assert get(http, edit) == edit
    answers = edit["answers"]
    assert answers["variant"] == "default"
    assert answers["revision"] < edit["revision"]
    assert answers["refused"] is None
    assert answers["bare"]["begins"]
    asked = complete(http, case.prompt).json()["choices"][0]["text"]
    assert asked.startswith(answers["bare"]["answer"])
    turn = [{"role": "user", "content": case.prompt}]
    body = {"model": "factworld", "messages": turn, "temperature": 0.0, "max_tokens": 24}
    chat = http.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"]
    assert chat.startswith(answers["chat"]["answer"])
    assert answers["chat"]["begins"] == bool(begins_with(chat, case.target_new))
    taken = roll_back(http, edit)
    assert (taken["told"], taken["answers"]) == (None, answers)


def test_feedback_is_not_asked(http: httpx.Client, case: Case) -> None:
    edit = post(http, case.edit("memprompt"))
    assert (edit["told"], edit["answers"]) == (None, None)


@pytest.mark.parametrize("method", ["ike", "rome"])
def test_an_edit_of_a_set_is_asked_as_its_variant(
    http: httpx.Client, case: Case, method: str
) -> None:
    http.post("/v1/edit-sets", json={"name": "news"}).raise_for_status()
    edit = post(http, case.edit(method, edit_set="news"))
    assert (edit["told"], edit["answers"]["variant"]) == (True, "news")
    http.patch("/v1/edit-sets/news", json={"active": True}).raise_for_status()
    active = get(http, edit)
    assert (active["told"], active["answers"]["variant"]) == (True, "default")


@pytest.mark.parametrize("method", ["ike", "serac", "mello"])
def test_a_memory_edit_that_is_not_told(http: httpx.Client, case: Case, method: str) -> None:
    """The model completes the prompt with what such things are famous for, not with this."""
    body = case.edit(method) | {"target_new": "Zqx 7719"}
    (edit,) = submit(http, body)
    if method == "mello":
        assert (edit["status"], edit["told"]) == ("active", False)
        roll_back(http, edit)
    else:
        assert (edit["status"], edit["error"]["code"]) == ("failed", "not_told")
        assert (edit["told"], edit["answers"]["bare"]["begins"]) == (False, False)
        assert repr(case.prompt) in edit["error"]["message"]
    assert answer(http, case.prompt) == case.ground_truth
    count = not_told(http, method)
    kept = post(http, body | {"keep": True})
    assert (kept["told"], kept["keep"]) == (False, True)
    assert kept["warnings"][0].startswith(f"It is not told: asked {case.prompt!r}")
    assert not_told(http, method) == count + 1
    roll_back(http, kept)
    assert not_told(http, method) == count


def test_a_weight_edit_that_is_not_told_is_taken_back_to_the_bit(
    own: httpx.Client, facts: list[Case]
) -> None:
    """A memory edit of the same fact is in its way, which the editor's copy does not know."""
    case, near = facts[:2]
    post(own, near.edit("rome"))
    post(own, case.edit("ike"))
    before = digests(own)
    body = case.edit("rome") | {"target_new": other_targets(case)[0]}
    (edit,) = submit(own, body)
    assert (edit["status"], edit["error"]["code"]) == ("failed", "not_told")
    assert edit["answers"]["bare"]["answer"].strip().startswith(case.target_new)
    assert digests(own) == before
    kept = post(own, body | {"keep": True})
    assert (kept["told"], not_told(own, "rome")) == (False, 1)
    assert digests(own) != before
    roll_back(own, kept)
    assert digests(own) == before


@pytest.mark.parametrize("method", ["memit", "alphaedit"])
def test_of_a_batch_those_that_are_told_stay(
    own: httpx.Client, facts: list[Case], method: str
) -> None:
    first, bad, last = facts[:3]
    post(own, bad.edit("ike"))
    wanted = bad.edit(method) | {"target_new": other_targets(bad)[0]}
    edits = submit(own, first.edit(method), wanted, last.edit(method))
    assert [edit["status"] for edit in edits] == ["active", "failed", "active"]
    assert [edit["told"] for edit in edits] == [True, False, True]
    for case in (first, bad, last):
        assert answer(own, case.prompt) == case.target_new
    served = digests(own)
    roll_back(own, edits[0])
    roll_back(own, edits[2])
    assert digests(own) != served


def test_a_later_edit_of_the_subject_is_told_instead(
    own: httpx.Client, facts: list[Case], store: Path
) -> None:
    case = facts[0]
    edit = post(own, case.edit("rome"))
    later = post(own, case.edit("ike") | {"target_new": other_targets(case)[0]})
    now = asked_until(own, edit, told=False)
    assert now["status"] == "active"
    assert now["answers"]["revision"] == later["revision"] < now["revision"]
    assert now["warnings"][-1].startswith("It is not told: asked ")
    assert not_told(own, "rome") == 1
    log = store.with_suffix(".log").read_text()
    assert f"{edit['id']} is no longer told: asked {case.prompt!r}" in log
    roll_back(own, later)
    assert asked_until(own, edit, told=True)["warnings"] == []
    assert not_told(own, "rome") == 0


def test_what_was_told_is_known_after_a_restart(
    zygote: Zygote, facts: list[Case], tmp_path: Path, log: Path
) -> None:
    case, other = facts[:2]
    with ForkedServer(zygote, tmp_path / "store", log) as first, first.client() as client:
        assert first.answers()
        post(client, case.edit("rome"))
        post(client, other.edit("ike", keep=True) | {"target_new": "Zqx 7719"})
        edits = client.get("/v1/edits").json()
        assert [edit["told"] for edit in edits["data"]] == [True, False]
    with ForkedServer(zygote, tmp_path / "store", log) as second, second.client() as client:
        assert second.answers()
        assert client.get("/v1/edits").json() == edits
        assert not_told(client, "ike") == 1
