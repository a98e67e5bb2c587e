"""Applies edits to a server in a separate edit set, which is deleted afterwards."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from vllm_edit.domain.errors import ConflictingState, EditError
from vllm_edit.evaluation.record import RequestedRewrite
from vllm_edit.evaluation.server_client import ServerClient
from vllm_edit.evaluation.target import AppliedEdits

SET = "vllm-edit-evaluation"
"""The edit set of an evaluation. It is active, so default traffic sees it."""


@dataclass(frozen=True)
class ServerEditApplier:
    """An `EditApplier` for the edits of one method on a server."""

    connection: ServerClient
    method: str

    def apply(self, rewrites: Sequence[RequestedRewrite]) -> AppliedEdits:
        body = {"edits": [self._body(rewrite) for rewrite in rewrites], "wait": True}
        start = time.perf_counter()
        edits = self.connection.post("/v1/edits", body)["data"]
        seconds = time.perf_counter() - start
        self.connection.wait_until_alone()
        failures = [
            f"{edit['prompt']!r}: {edit['error']['message']}" for edit in edits if edit["error"]
        ]
        return AppliedEdits(seconds, len(edits), tuple(failures))

    def expect(self, singles: Sequence[Sequence[RequestedRewrite]]) -> None:
        """The server makes each edit when it is asked to."""

    @contextmanager
    def clean_state(self) -> Iterator[None]:
        self.connection.post("/v1/edit-sets", {"name": SET})
        try:
            self.connection.patch(f"/v1/edit-sets/{SET}", {"active": True})
            yield
        finally:
            self.connection.delete(f"/v1/edit-sets/{SET}")

    def _body(self, rewrite: RequestedRewrite) -> dict[str, str]:
        body = {
            "method": self.method,
            "prompt": rewrite.prompt,
            "subject": rewrite.subject,
            "target_new": rewrite.target_new,
            "edit_set": SET,
        }
        if rewrite.ground_truth:
            body["ground_truth"] = rewrite.ground_truth
        return body


def require_clean(connection: ServerClient) -> None:
    """Raise ConflictingState if the server's default traffic sees edits.

    Deletes the edit set that a killed evaluation has left.
    """
    sets = {edit_set["name"]: edit_set for edit_set in connection.get("/v1/edit-sets")["data"]}
    if SET in sets:
        connection.delete(f"/v1/edit-sets/{SET}")
    visible = {None, *(name for name, one in sets.items() if one["active"])} - {SET}
    edits = connection.get("/v1/edits?status=active")["data"]
    live = [edit["id"] for edit in edits if edit["edit_set"] in visible]
    if live:
        raise ConflictingState(
            f"{connection.url} has {len(live)} edits in effect, such as {live[0]}. An "
            "evaluation must start without edits: roll them back, or use another server."
        )


def served_model(connection: ServerClient) -> str:
    """The name of the model that the server serves; raises EditError if it names none."""
    names = [model["id"] for model in connection.get("/v1/models")["data"]]
    if not names:
        raise EditError(f"{connection.url} serves no model.")
    return str(names[0])
