"""From tokens to text, as they come."""

from collections.abc import Callable, Sequence
from typing import Any

from transformers.generation.streamers import BaseStreamer

_HALF = "\N{REPLACEMENT CHARACTER}"


class TextStream(BaseStreamer):
    """Hands on the text of tokens, up to a stop string.

    Held back are a character whose last bytes have not come, and what may be the beginning of a
    stop string. `lead` are the tokens in front, which are decoded too and left out.
    """

    def __init__(
        self,
        decode: Callable[[Sequence[int]], str],
        lead: Sequence[int],
        stop: Sequence[str],
        emit: Callable[[str], None],
    ) -> None:
        self._decode = decode
        self._ids = list(lead)
        self._lead = len(self._ids)
        self._skipped = len(decode(self._ids))
        self._stop = stop
        self._emit = emit
        self._sent = 0
        self._prompt_came = False
        self.stopped = False

    @property
    def tokens(self) -> int:
        """How many tokens came."""
        return len(self._ids) - self._lead

    @property
    def last(self) -> int | None:
        """The last token that came."""
        return self._ids[-1] if self.tokens else None

    def put(self, value: Any) -> None:
        """Take the prompt, and then one token after the other."""
        if not self._prompt_came:
            self._prompt_came = True
            return
        self._ids += value.tolist()
        text = self._text()
        if not text.endswith(_HALF):
            self._hand_on(text, len(text) - self._held(text))

    def end(self) -> None:
        """Hand on what was held back."""
        text = self._text()
        self._hand_on(text, len(text))

    def _text(self) -> str:
        return self._decode(self._ids)[self._skipped :]

    def _hand_on(self, text: str, end: int) -> None:
        if self.stopped:
            return
        found = [at for stop in self._stop if (at := text.find(stop)) >= 0]
        if found:
            self.stopped, end = True, min(found)
        if end > self._sent:
            self._emit(text[self._sent : end])
            self._sent = end

    def _held(self, text: str) -> int:
        """The length of the longest end of the text that a stop string begins with."""
        longest = max(map(len, self._stop), default=1) - 1
        sizes = range(min(longest, len(text)), 0, -1)
        return next((n for n in sizes if any(s.startswith(text[-n:]) for s in self._stop)), 0)
