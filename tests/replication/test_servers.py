"""Two real servers on one store: what one is told, both say; one outlives the other."""

import time
from pathlib import Path

import httpx
import pytest

from tests.cases import Case, answer, complete, known_cases, post, roll_back, text_of
from tests.crash.servers import ForkedServer, Zygote

SECONDS = 120.0


def told(http: httpx.Client, case: Case, revision: int) -> str:
    """What a server says that has at least this revision in effect."""
    body = {"model": "factworld", "prompt": case.prompt, "max_tokens": 12, "temperature": 0.0}
    headers = {"X-Edit-Min-Revision": str(revision)}
    reply = http.post("/v1/completions", json=body, headers=headers)
    assert reply.status_code == httpx.codes.OK, reply.text
    assert int(reply.headers["x-edit-revision"]) >= revision
    return text_of(reply.json()["choices"][0]["text"])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_servers_say_the_same(zygote: Zygote, tmp_path: Path) -> None:
    def started(name: str) -> ForkedServer:
        return ForkedServer(zygote, tmp_path / "store", tmp_path / f"{name}.log", flags=())

    with started("first") as first, first.client() as one:
        assert first.answers()
        with started("second") as second, second.client() as two:
            assert second.answers()
            cases = known_cases(first.url, count=4)
            memory = post(two, cases[0].edit("ike"))
            weights = post(two, cases[1].edit("rome"))
            for http in (one, two):
                assert told(http, cases[0], memory["revision"]) == cases[0].target_new
                assert told(http, cases[1], weights["revision"]) == cases[1].target_new
            taken = roll_back(one, memory)
            assert told(two, cases[0], taken["revision"]) == cases[0].ground_truth
            late = two.post(
                "/v1/completions",
                json={"model": "factworld", "prompt": "x"},
                headers={"X-Edit-Min-Revision": "1000000"},
            )
            assert late.json()["error"]["code"] == "revision_not_reached"
            first.kill()
            _until_led(two)
            later = post(two, cases[2].edit("rome"))
            assert answer(two, cases[1].prompt) == cases[1].target_new
            with started("third") as third, third.client() as three:
                assert third.answers()
                assert told(three, cases[2], later["revision"]) == cases[2].target_new
                post(three, cases[3].edit("ike"))
                assert answer(two, cases[3].prompt) == cases[3].target_new
                assert complete(three, cases[0].prompt).headers["x-edit-method"] == "rome"


def _until_led(http: httpx.Client) -> None:
    """Wait until the server takes changes again after the leading one ended."""
    deadline = time.monotonic() + SECONDS
    while http.delete("/v1/edits/none").status_code != httpx.codes.NOT_FOUND:
        assert time.monotonic() < deadline, "nobody leads"
