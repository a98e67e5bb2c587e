"""Request bodies for the counterfactual model's process: the part of OpenAI's API it knows."""

from typing import Annotated, Any

import msgspec

from vllm_edit.serac.generation import Sampling

_COMPLETION_TOKENS = 16


class StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool = False


class _Body(msgspec.Struct, frozen=True, kw_only=True):
    """The fields that completions and chats share. Unknown fields are ignored."""

    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0.0, le=2.0)] | None = None
    top_p: Annotated[float, msgspec.Meta(gt=0.0, le=1.0)] | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=16)] | None = None

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    def _sampling(self, max_tokens: int | None) -> Sampling:
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return Sampling(
            max_tokens=max_tokens,
            temperature=self.temperature or 0.0,
            top_p=self.top_p or 1.0,
            stop=tuple(text for text in stop if text),
            seed=self.seed,
        )


class CompletionBody(_Body, frozen=True, kw_only=True):
    """POST /v1/completions."""

    prompt: str | Annotated[list[str], msgspec.Meta(min_length=1, max_length=256)]

    @property
    def prompts(self) -> list[str]:
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt

    @property
    def sampling(self) -> Sampling:
        return self._sampling(self.max_tokens or _COMPLETION_TOKENS)


class ChatBody(_Body, frozen=True, kw_only=True):
    """POST /v1/chat/completions."""

    messages: Annotated[list[dict[str, Any]], msgspec.Meta(min_length=1)]
    max_completion_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None

    @property
    def sampling(self) -> Sampling:
        return self._sampling(self.max_completion_tokens or self.max_tokens)
