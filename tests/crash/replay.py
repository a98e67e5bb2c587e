"""An engine that never crashed, given the deltas that another should serve: what it must equal."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.cases import MODEL, Case, text_of
from tests.crash.history import Told
from tests.crash.servers import ForkedServer
from vllm_edit.domain.variant import model_name
from vllm_edit.weights.delta_store import DeltaKey


@dataclass(frozen=True)
class Replay:
    """Compares a server with the engine of another, ``reference``, that has no edits of its own.

    ``facts`` are what it is asked about.
    """

    reference: ForkedServer
    facts: Sequence[Case]

    def compare(
        self, server: ForkedServer, store: Path, edits: Sequence[Told], sets: Sequence[Told] = ()
    ) -> None:
        """Check that the server serves exactly the active ones of these edits of its store."""
        shown = {None, *(edit_set["name"] for edit_set in sets if edit_set["active"])}
        with server.client() as client, self.reference.client() as reference:
            self._load(reference, store, [e for e in edits if e["edit_set"] in shown])
            assert digests(client) == digests(reference)
            self._ask(client, MODEL, reference, [e for e in edits if e["edit_set"] in shown])
            for edit_set in sets:
                assert edit_set["unavailable"] is None, edit_set
                mine = [edit for edit in edits if edit["edit_set"] == edit_set["name"]]
                self._load(reference, store, mine)
                self._ask(client, model_name(MODEL, edit_set["name"]), reference, mine)

    def _load(self, reference: httpx.Client, store: Path, edits: Sequence[Told]) -> None:
        files = [str(path) for path in live_deltas(edits, store / "deltas")]
        reply = reference.put("/probes/weights", json=files)
        assert reply.is_success, reply.text

    def _ask(
        self, client: httpx.Client, model: str, reference: httpx.Client, edits: Sequence[Told]
    ) -> None:
        """Compare answers; what memory edits say is said instead of what the weights do."""
        prompts = [case.prompt for case in self.facts]
        expected = answers(reference, MODEL, prompts) | remembered(edits)
        found = answers(client, model, prompts)
        wrong = {p: (found[p], expected[p]) for p in prompts if found[p] != expected[p]}
        assert not wrong, (model, wrong, edits)


def live_deltas(edits: Sequence[Told], folder: Path) -> list[Path]:
    """The files of the deltas that serve these edits, oldest first."""
    groups: dict[str, list[str]] = {}
    for edit in edits:
        if edit["status"] == "active" and edit["method"] != "ike":
            groups.setdefault(edit["batch"] or edit["id"], []).append(edit["id"])
    return [folder / DeltaKey(name, tuple(ids)).file_name for name, ids in groups.items()]


def remembered(edits: Sequence[Told]) -> dict[str, str]:
    """What the memory edits in effect make a server say, by prompt."""
    active = [edit for edit in edits if edit["status"] == "active" and edit["method"] == "ike"]
    return {edit["prompt"]: edit["target_new"] for edit in active}


def digests(client: httpx.Client) -> Any:
    """SHA-256 of what each linear layer does."""
    reply = client.get("/probes/digests")
    assert reply.is_success, reply.text
    return reply.json()


def answers(client: httpx.Client, model: str, prompts: Sequence[str]) -> dict[str, str]:
    """Greedy answers, by prompt."""
    body = {"model": model, "prompt": prompts, "max_tokens": 12, "temperature": 0.0, "stop": ["\n"]}
    reply = client.post("/v1/completions", json=body)
    assert reply.is_success, reply.text
    choices = sorted(reply.json()["choices"], key=lambda choice: choice["index"])
    return dict(zip(prompts, (text_of(choice["text"]) for choice in choices), strict=True))
