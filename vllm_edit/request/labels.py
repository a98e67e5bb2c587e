"""The response headers that say what knowledge an answer was made with."""

from collections.abc import Sequence

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Send

from retriever import Rewrite


class Labels:
    """Says the revision, the variant, the edits put in front and the methods of an answer."""

    def __init__(self, revision: int, variant: str, methods: Sequence[str]) -> None:
        self._revision = revision
        self._variant = variant
        self._methods = list(methods)
        self._ids: list[str] = []

    def use(self, rewrites: Sequence[Rewrite]) -> None:
        for rewrite in rewrites:
            self._ids += [i for i in rewrite.edit_ids if i not in self._ids]
            if rewrite.method not in self._methods:
                self._methods.append(rewrite.method)

    def wrap(self, send: Send) -> Send:
        """A send that adds the headers."""

        async def labelled(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["x-edit-revision"] = str(self._revision)
                headers["x-edit-variant"] = self._variant
                headers["x-edit-ids"] = ",".join(self._ids)
                headers["x-edit-method"] = ",".join(self._methods)
            await send(message)

        return labelled
