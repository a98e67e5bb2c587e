"""An engine that never crashed, given the deltas that another should serve: what it must equal."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.cases import MODEL, Case, text_of
from tests.crash.history import Told
from tests.crash.servers import ForkedServer
from vllm_edit.deltas import DeltaKey


@dataclass(frozen=True)
class Replay:
    """Compares a server with the engine of another, ``reference``, that has no edits of its own."""

    reference: ForkedServer
    cases: Sequence[Case]

    def compare(self, server: ForkedServer, edits: Sequence[Told], store: Path) -> None:
        """Check that the server serves exactly the active ones of these edits of its store."""
        with server.client() as client, self.reference.client() as reference:
            files = [str(path) for path in live_deltas(edits, store / "deltas")]
            assert reference.put("/probes/weights", json=files).is_success
            assert digests(client) == digests(reference)
            prompts = [case.prompt for case in self.cases]
            expected = answers(reference, prompts) | told(edits)
            assert answers(client, prompts) == {prompt: expected[prompt] for prompt in prompts}


def live_deltas(edits: Sequence[Told], folder: Path) -> list[Path]:
    """The files of the deltas that serve these edits, oldest first."""
    groups: dict[str, list[str]] = {}
    for edit in edits:
        if edit["status"] == "active" and edit["method"] != "ike":
            groups.setdefault(edit["batch"] or edit["id"], []).append(edit["id"])
    return [folder / DeltaKey(name, tuple(ids)).file_name for name, ids in groups.items()]


def told(edits: Sequence[Told]) -> dict[str, str]:
    """What the edits in effect make a server say, by prompt."""
    return {edit["prompt"]: edit["target_new"] for edit in edits if edit["status"] == "active"}


def digests(client: httpx.Client) -> Any:
    """SHA-256 of what each linear layer does."""
    reply = client.get("/probes/digests")
    assert reply.is_success, reply.text
    return reply.json()


def answers(client: httpx.Client, prompts: Sequence[str]) -> dict[str, str]:
    """Greedy answers, by prompt."""
    body = {"model": MODEL, "prompt": prompts, "max_tokens": 12, "temperature": 0.0, "stop": ["\n"]}
    reply = client.post("/v1/completions", json=body)
    assert reply.is_success, reply.text
    choices = sorted(reply.json()["choices"], key=lambda choice: choice["index"])
    return dict(zip(prompts, (text_of(choice["text"]) for choice in choices), strict=True))
