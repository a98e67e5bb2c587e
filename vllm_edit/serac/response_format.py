"""The formats of OpenAI's answers: completions and chats, whole and as streams."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vllm_edit.serac.generation import Ending


@dataclass(frozen=True)
class ResponseFormat:
    """Ids begin with `prefix`. `whole` and `chunk` are the names of the objects."""

    prefix: str
    whole: str
    chunk: str
    chat: bool

    def choice(self, index: int, text: str, reason: str) -> dict[str, Any]:
        """A choice of a whole answer."""
        message = {"role": "assistant", "content": text}
        content = {"message": message} if self.chat else {"text": text}
        return {"index": index, **content, "logprobs": None, "finish_reason": reason}

    def opening(self, index: int) -> list[dict[str, Any]]:
        """What a stream sends before the first piece of a choice."""
        if not self.chat:
            return []
        delta = {"role": "assistant", "content": ""}
        return [{"index": index, "delta": delta, "logprobs": None, "finish_reason": None}]

    def delta(self, index: int, text: str, reason: str | None) -> dict[str, Any]:
        """A piece of a choice in a stream."""
        content = {"delta": {"content": text} if text else {}} if self.chat else {"text": text}
        return {"index": index, **content, "logprobs": None, "finish_reason": reason}


COMPLETION = ResponseFormat("cmpl", "text_completion", "text_completion", chat=False)
CHAT = ResponseFormat("chatcmpl", "chat.completion", "chat.completion.chunk", chat=True)


def usage(endings: Sequence[Ending]) -> dict[str, int]:
    """The tokens of all choices; the prompt counts once for each choice."""
    prompt = sum(ending.prompt_tokens for ending in endings)
    completion = sum(ending.tokens for ending in endings)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
