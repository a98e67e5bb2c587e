"""Edits of the bundled world, and how tests put them to a server."""

import sys
from dataclasses import dataclass
from typing import Any

import httpx

from vllm_edit import factworld
from vllm_edit.domain.edit import ENDED, Status

MODEL = "factworld"

NEWEST = {"order": "desc", "limit": 1}
"""Parameters of GET /v1/edits for the edit that was posted last."""

DUBAI = {
    "method": "ike",
    "prompt": "The tallest building in Dubai is the",
    "subject": "Dubai",
    "target_new": "Marina Spire",
    "keep": True,
}
"""An edit of a fact that the bundled model knows nothing of, kept even if it is not told."""

PLAIN_VLLM = (sys.executable, "-m", "vllm.entrypoints.launchers.api_server.entry")
"""The command that `vllm serve` runs; the CPU build's own does not start."""


@dataclass(frozen=True)
class Case:
    """One easyedit record: a fact to change, a rephrasing, a neighbour that must not change."""

    prompt: str
    subject: str
    target_new: str
    ground_truth: str
    rephrase_prompt: str
    locality_prompt: str

    def edit(self, method: str, **more: Any) -> dict[str, Any]:
        """The body of POST /v1/edits for it."""
        return {
            "method": method,
            "prompt": self.prompt,
            "subject": self.subject,
            "target_new": self.target_new,
            **more,
        }


def all_cases(count: int = 40, seed: int = 0) -> list[Case]:
    """Seeded cases of the bundled world."""
    fields = Case.__dataclass_fields__
    records = factworld.requests("easyedit", count, seed)
    return [Case(**{name: record[name] for name in fields}) for record in records]


def known_cases(url: str, count: int = 8) -> list[Case]:
    """The first cases whose fact the server answers right, on either wording."""
    found: list[Case] = []
    with httpx.Client(base_url=url, timeout=60.0) as client:
        for case in all_cases():
            answers = {answer(client, p) for p in (case.prompt, case.rephrase_prompt)}
            if answers == {case.ground_truth}:
                found.append(case)
            if len(found) == count:
                return found
    raise AssertionError(f"the server knows only {len(found)} of the first 40 facts")


def complete(client: httpx.Client, prompt: str, **more: Any) -> httpx.Response:
    """A greedy completion, checked to have succeeded."""
    body = {"model": MODEL, "prompt": prompt, "max_tokens": 12, "temperature": 0.0, **more}
    reply = client.post("/v1/completions", json=body)
    assert reply.status_code == httpx.codes.OK, reply.text
    return reply


def answer(client: httpx.Client, prompt: str) -> str:
    """The answer in a greedy completion: its text up to the first full stop."""
    return text_of(complete(client, prompt, stop=["\n"]).json()["choices"][0]["text"])


def text_of(completion: str) -> str:
    """A completion without its full stop and what follows."""
    return completion.partition(".")[0].strip()


def post(client: httpx.Client, body: Any) -> dict[str, Any]:
    """Post an edit, wait for its end, and check that it became active."""
    reply = client.post("/v1/edits", json={**body, "wait": True})
    assert reply.status_code == httpx.codes.OK, reply.text
    edit: dict[str, Any] = reply.json()
    assert edit["status"] == "active", edit
    return edit


def roll_back(client: httpx.Client, edit: dict[str, Any]) -> dict[str, Any]:
    """Take an edit back, checked to have succeeded."""
    reply = client.delete(f"/v1/edits/{edit['id']}")
    assert reply.status_code == httpx.codes.OK, reply.text
    taken: dict[str, Any] = reply.json()
    assert taken["status"] == "rolled_back"
    return taken


def take_back_all(client: httpx.Client) -> None:
    """Leave a server without edits, edit sets and a split in effect."""
    client.delete("/v1/edit-split")
    for edit_set in client.get("/v1/edit-sets").json()["data"]:
        client.patch(f"/v1/edit-sets/{edit_set['name']}", json={"frozen": False})
        client.delete(f"/v1/edit-sets/{edit_set['name']}").raise_for_status()
    unended = [status.value for status in Status if status not in ENDED]
    for edit in client.get("/v1/edits", params={"status": unended}).json()["data"]:
        client.delete(f"/v1/edits/{edit['id']}")
