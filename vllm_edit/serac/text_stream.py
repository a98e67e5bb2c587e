"""Turns tokens into text as they are generated."""

from collections.abc import Callable, Sequence
from typing import Any

from transformers.generation.streamers import BaseStreamer

_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"


class TextStream(BaseStreamer):
    """Emits the text of tokens, up to a stop string.

    It holds back a character whose last bytes are missing, and text that may begin a stop string.
    `context` are the last tokens of the prompt: they are decoded too, but not emitted.
    """

    def __init__(
        self,
        decode: Callable[[Sequence[int]], str],
        context: Sequence[int],
        stop: Sequence[str],
        emit: Callable[[str], None],
    ) -> None:
        self._decode = decode
        self._ids = list(context)
        self._context = len(self._ids)
        self._context_chars = len(decode(self._ids))
        self._stop = stop
        self._emit = emit
        self._sent = 0
        self._has_prompt = False
        self.stopped = False

    @property
    def tokens(self) -> int:
        """The number of generated tokens."""
        return len(self._ids) - self._context

    @property
    def last(self) -> int | None:
        """The last generated token."""
        return self._ids[-1] if self.tokens else None

    def put(self, value: Any) -> None:
        """Take the prompt, and then one token at a time."""
        if not self._has_prompt:
            self._has_prompt = True
            return
        self._ids += value.tolist()
        text = self._text()
        if not text.endswith(_INCOMPLETE):
            self._emit_up_to(text, len(text) - self._held_back(text))

    def end(self) -> None:
        """Emit what was held back."""
        text = self._text()
        self._emit_up_to(text, len(text))

    def _text(self) -> str:
        return self._decode(self._ids)[self._context_chars :]

    def _emit_up_to(self, text: str, end: int) -> None:
        if self.stopped:
            return
        stops = [at for stop in self._stop if (at := text.find(stop)) >= 0]
        if stops:
            self.stopped, end = True, min(stops)
        if end > self._sent:
            self._emit(text[self._sent : end])
            self._sent = end

    def _held_back(self, text: str) -> int:
        """The length of the longest suffix of the text that begins a stop string."""
        longest = max(map(len, self._stop), default=1) - 1
        sizes = range(min(longest, len(text)), 0, -1)
        return next((n for n in sizes if any(s.startswith(text[-n:]) for s in self._stop)), 0)
