"""The response headers that say what knowledge an answer was made with."""

from collections.abc import Sequence

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Send

from retriever import Delegate, Rewrite


class Labels:
    """Says the revision, the variant, the edits used, how surely, and the methods of an answer."""

    def __init__(self, revision: int, variant: str, methods: Sequence[str]) -> None:
        self._revision = revision
        self._variant = variant
        self._methods = list(methods)
        self._scores: dict[str, float] = {}

    def use(self, decisions: Sequence[Rewrite | Delegate]) -> None:
        for decision in decisions:
            for edit_id, score in zip(decision.edit_ids, decision.scores, strict=True):
                self._scores.setdefault(edit_id, score)
            if decision.method not in self._methods:
                self._methods.append(decision.method)

    def wrap(self, send: Send) -> Send:
        """A send that adds the headers."""

        async def labelled(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["x-edit-revision"] = str(self._revision)
                headers["x-edit-variant"] = self._variant
                headers["x-edit-ids"] = ",".join(self._scores)
                headers["x-edit-scores"] = ",".join(f"{s:.4f}" for s in self._scores.values())
                headers["x-edit-method"] = ",".join(self._methods)
            await send(message)

        return labelled
