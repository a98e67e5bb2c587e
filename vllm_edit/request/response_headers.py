"""The response headers that say what knowledge an answer was made with."""

from collections.abc import Sequence

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Send

from retriever import Delegate, Rewrite


class ResponseHeaders:
    """An answer's revision, variant and methods, and the edits used with their scores."""

    def __init__(
        self,
        revision: int,
        variant: str,
        methods: Sequence[str],
        decisions: Sequence[Rewrite | Delegate],
    ) -> None:
        self._revision = revision
        self._variant = variant
        self._methods = list(dict.fromkeys([*methods, *(each.method for each in decisions)]))
        self._scores: dict[str, float] = {}
        for decision in decisions:
            for edit_id, score in zip(decision.edit_ids, decision.scores, strict=True):
                self._scores.setdefault(edit_id, score)

    def wrap(self, send: Send) -> Send:
        """A send that adds the headers."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["x-edit-revision"] = str(self._revision)
                headers["x-edit-variant"] = self._variant
                headers["x-edit-ids"] = ",".join(self._scores)
                headers["x-edit-scores"] = ",".join(f"{s:.4f}" for s in self._scores.values())
                headers["x-edit-method"] = ",".join(self._methods)
            await send(message)

        return send_with_headers
