"""Generation with a small Transformers model, text by text."""

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
# Tokens of the prompt that are decoded too, since some tokenizers drop a text's first space.
_LEAD = 4


@dataclass(frozen=True)
class Sampling:
    """How to choose tokens: temperature 0 is greedy; `max_tokens` None is all that fit."""

    max_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True)
class Ending:
    """How a generation ended, and the tokens it had."""

    reason: Literal["stop", "length"]
    prompt_tokens: int
    tokens: int


class TooLongError(ValueError):
    """The prompt leaves no room for an answer."""


class Generator:
    """Generates with one model, one text at a time."""

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
        return self._fitting(ids)

    def encode_chat(self, messages: Sequence[dict[str, Any]]) -> list[int]:
        """A chat's ids; raises TooLongError, and jinja2's errors for what the template refuses."""
        text: str = self._tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=True
        )
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return self._fitting(ids)

    def generate(
        self,
        ids: Sequence[int],
        sampling: Sampling,
        emit: Callable[[str], None],
        cancelled: Callable[[], bool],
    ) -> Ending:
        """Generate after these ids, handing each piece of text to `emit`, until it is cancelled."""
        stream = TextStream(self._decode, ids[-_LEAD:], sampling.stop, emit)
        room = self._positions - len(ids)
        most = min(room, sampling.max_tokens or room)
        if sampling.seed is not None:
            torch.manual_seed(sampling.seed)
        given = torch.tensor([list(ids)], device=self._model.device)
        with torch.inference_mode():
            self._model.generate(
                input_ids=given,
                attention_mask=torch.ones_like(given),
                streamer=stream,
                stopping_criteria=StoppingCriteriaList([_Until(stream, cancelled)]),
                max_new_tokens=most,
                pad_token_id=self._tokenizer.eos_token_id,
                **_choosing(sampling),
            )
        ended = stream.tokens < most or stream.last == self._tokenizer.eos_token_id
        ended = ended or stream.stopped
        return Ending("stop" if ended else "length", len(ids), stream.tokens)

    def _decode(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def _fitting(self, ids: list[int]) -> list[int]:
        if not 0 < len(ids) < self._positions:
            raise TooLongError(
                f"The prompt has {len(ids)} tokens; the model takes 1 to {self._positions - 1}."
            )
        return ids


class _Until(StoppingCriteria):
    """Ends a generation at a stop string, or when nobody wants it any more."""

    def __init__(self, stream: TextStream, cancelled: Callable[[], bool]) -> None:
        self._stream = stream
        self._cancelled = cancelled

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        done = self._stream.stopped or self._cancelled()
        return torch.full((len(input_ids),), done, device=input_ids.device)


def _choosing(sampling: Sampling) -> dict[str, Any]:
    """The arguments of `generate`; those of a checkpoint's own that do not fit are undone."""
    if not sampling.temperature:
        return {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    return {
        "do_sample": True,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": 0,
    }
