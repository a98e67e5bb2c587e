"""The shapes of OpenAI's answers: completions and chats, whole and in pieces."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vllm_edit.serac.generation import Ending


@dataclass(frozen=True)
class Shape:
    """`prefix` begins ids; `whole` and `piece` name the objects."""

    prefix: str
    whole: str
    piece: str
    chat: bool

    def choice(self, index: int, text: str, reason: str) -> dict[str, Any]:
        """A choice of a whole answer."""
        said = {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        return {"index": index, **said, "logprobs": None, "finish_reason": reason}

    def opening(self, index: int) -> list[dict[str, Any]]:
        """What comes before the first piece of a choice."""
        if not self.chat:
            return []
        delta = {"role": "assistant", "content": ""}
        return [{"index": index, "delta": delta, "logprobs": None, "finish_reason": None}]

    def delta(self, index: int, text: str, reason: str | None) -> dict[str, Any]:
        """A piece of a choice."""
        said = {"delta": {"content": text} if text else {}} if self.chat else {"text": text}
        return {"index": index, **said, "logprobs": None, "finish_reason": reason}


COMPLETION = Shape("cmpl", "text_completion", "text_completion", chat=False)
CHAT = Shape("chatcmpl", "chat.completion", "chat.completion.chunk", chat=True)


def usage(endings: Sequence[Ending]) -> dict[str, int]:
    """The tokens of all choices; a prompt counts once for each."""
    given = sum(ending.prompt_tokens for ending in endings)
    made = sum(ending.tokens for ending in endings)
    return {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}
