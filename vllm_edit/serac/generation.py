"""Generation with a small Transformers model, one text at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)

from vllm_edit.serac.text_stream import TextStream

_POSITIONS = 2048
# Some tokenizers drop the first space of a text, so the last tokens of the prompt are decoded too.
_CONTEXT_TOKENS = 4


@dataclass(frozen=True)
class Sampling:
    """How to choose tokens. Temperature 0 is greedy; without `max_tokens`, as many as fit."""

    max_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True)
class Ending:
    """How a generation ended, and how many tokens it had."""

    reason: Literal["stop", "length"]
    prompt_tokens: int
    tokens: int


class TooLongError(ValueError):
    """The prompt leaves no room for an answer."""


class Generator:
    """Generates with one model."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self._model: Any = model
        self._tokenizer: Any = tokenizer
        self._positions: int = getattr(model.config, "max_position_embeddings", _POSITIONS)

    @property
    def chats(self) -> bool:
        """Whether there is a chat template."""
        return bool(self._tokenizer.chat_template)

    def encode(self, prompt: str) -> list[int]:
        """A prompt's ids; raises TooLongError."""
        ids: list[int] = self._tokenizer(prompt)["input_ids"]
        return self._require_room(ids)

    def encode_chat(self, messages: Sequence[dict[str, Any]]) -> list[int]:
        """A chat's ids; raises TooLongError, and jinja2's errors for what the template refuses."""
        text: str = self._tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=True
        )
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return self._require_room(ids)

    def generate(
        self,
        ids: Sequence[int],
        sampling: Sampling,
        emit: Callable[[str], None],
        cancelled: Callable[[], bool],
    ) -> Ending:
        """Generate after these ids and pass each piece of text to `emit`, until `cancelled()`."""
        stream = TextStream(self._decode, ids[-_CONTEXT_TOKENS:], sampling.stop, emit)
        room = self._positions - len(ids)
        max_tokens = min(room, sampling.max_tokens or room)
        if sampling.seed is not None:
            torch.manual_seed(sampling.seed)
        prompt = torch.tensor([list(ids)], device=self._model.device)
        with torch.inference_mode():
            self._model.generate(
                input_ids=prompt,
                attention_mask=torch.ones_like(prompt),
                streamer=stream,
                stopping_criteria=StoppingCriteriaList([_Stop(stream, cancelled)]),
                max_new_tokens=max_tokens,
                pad_token_id=self._tokenizer.eos_token_id,
                **_sampling_arguments(sampling),
            )
        ended = stream.tokens < max_tokens or stream.last == self._tokenizer.eos_token_id
        ended = ended or stream.stopped
        return Ending("stop" if ended else "length", len(ids), stream.tokens)

    def _decode(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def _require_room(self, ids: list[int]) -> list[int]:
        if not 0 < len(ids) < self._positions:
            raise TooLongError(
                f"The prompt has {len(ids)} tokens; the model takes 1 to {self._positions - 1}."
            )
        return ids


class _Stop(StoppingCriteria):
    """Ends a generation at a stop string or when it is cancelled."""

    def __init__(self, stream: TextStream, cancelled: Callable[[], bool]) -> None:
        self._stream = stream
        self._cancelled = cancelled

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        done = self._stream.stopped or self._cancelled()
        return torch.full((len(input_ids),), done, device=input_ids.device)


def _sampling_arguments(sampling: Sampling) -> dict[str, Any]:
    """Arguments of `generate`; they override the checkpoint's own generation settings."""
    if not sampling.temperature:
        return {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    return {
        "do_sample": True,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": 0,
    }
