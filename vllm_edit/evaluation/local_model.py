"""A model in plain Transformers that answers the same questions as a served one."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vllm_edit.evaluation.in_front import NOTHING, InFront
from vllm_edit.evaluation.question import (
    FLUENCY,
    MAX_TOKENS,
    TOP,
    Answer,
    Answers,
    Forced,
    Ids,
    Question,
    common_length,
    joined_text,
    seam,
)

_BATCH = 32

Served = tuple[str, bool]
"""A prompt, and whether it is a user's message."""


class LocalModel:
    """A model in this process as a `Model`; `in_front` puts facts in front of what it reads.

    Each question is a batch of its own, so that no answer depends on what is asked beside it. An
    answer given before to the same tokens is a guess that one pass checks in float32: as far as it
    is what the model would say, it need not be generated again.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        in_front: InFront = NOTHING,
        max_tokens: int = MAX_TOKENS,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._in_front = in_front
        self._max_tokens = max_tokens
        self._guesses: dict[Ids, Ids] = {}
        self._ends = _ends(model, tokenizer)

    @property
    def can_chat(self) -> bool:
        return self._tokenizer.chat_template is not None

    def answer(self, questions: Iterable[Question]) -> Answers:
        questions = list(dict.fromkeys(questions))
        served: dict[Served, Ids] = {}
        for q in questions:
            if (q.prompt, q.chat) not in served:
                served[q.prompt, q.chat] = self._served(q.prompt, q.chat)
        said = {ids: self._greedy(ids) for ids in dict.fromkeys(served.values())}
        answers: dict[Question, Answer] = {}
        for q in questions:
            ids = served[q.prompt, q.chat]
            forced = None if q.chat else self._force(*self._with_target(q, ids))
            answers[q] = Answer(self._text(said[ids]).strip(), forced, said[ids])
        return answers

    def top_logprobs(self, prompts: Sequence[str]) -> list[dict[int, float]]:
        tops = [logprobs.topk(TOP) for logprobs in self._next(prompts)]
        return [dict(zip(t.indices.tolist(), t.values.tolist(), strict=True)) for t in tops]

    def logprobs_of(
        self, prompts: Sequence[str], tokens: Sequence[Iterable[int]]
    ) -> list[dict[int, float]]:
        pairs = zip(self._next(prompts), tokens, strict=True)
        return [{token: float(logprobs[token]) for token in ids} for logprobs, ids in pairs]

    def sample(self, prompts: Sequence[str], seed: int) -> list[str]:
        most, top_k = FLUENCY["max_tokens"], FLUENCY["top_k"]
        ids = [self._plain(prompt) for prompt in prompts]
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            continuations = self._continue(
                ids,
                do_sample=True,
                temperature=FLUENCY["temperature"],
                top_k=top_k,
                max_new_tokens=most,
                min_new_tokens=most,
            )
        texts = [self._text(tokens) for tokens in continuations]
        return [f"{prompt}{text}" for prompt, text in zip(prompts, texts, strict=True)]

    def _ids(self, text: str) -> Ids:
        return tuple(self._tokenizer(text).input_ids)

    def _plain(self, prompt: str) -> Ids:
        return self._served(prompt, chat=False)

    def _served(self, prompt: str, chat: bool) -> Ids:
        """The tokens that the model reads, with facts in front."""
        if not chat:
            return self._ids(self._in_front.text(prompt))
        messages = self._in_front.chat(({"role": "user", "content": prompt},))
        template: Any = self._tokenizer.apply_chat_template
        encoded = template(list(messages), add_generation_prompt=True, return_dict=True)
        return tuple(encoded["input_ids"])

    def _text(self, tokens: Ids) -> str:
        return cast("str", self._tokenizer.decode(list(tokens), skip_special_tokens=True))

    def _with_target(self, question: Question, served: Ids) -> tuple[Ids, Ids]:
        alone, whole = self._ids(question.prompt), self._ids(joined_text(question))
        return seam(served, alone, whole)

    def _greedy(self, prompt: Ids) -> Ids:
        """The greedy answer, with the token that ends it if there is one."""
        # In a coarser type, one pass over several tokens rounds otherwise than one at a time.
        exact = self._model.dtype == torch.float32
        answer = self._checked(prompt, self._guesses.get(prompt, ()) if exact else ())
        if not self._is_whole(answer):
            left = self._max_tokens - len(answer)
            (more,) = self._continue([prompt + answer], do_sample=False, max_new_tokens=left)
            answer += more
        self._guesses[prompt] = answer
        return answer

    def _is_whole(self, answer: Ids) -> bool:
        return len(answer) >= self._max_tokens or answer[-1:] in self._ends

    def _checked(self, prompt: Ids, guess: Ids) -> Ids:
        """The part of the guess that is greedy, with the greedy token behind it."""
        if not guess:
            return ()
        logprobs = self._logprobs([prompt + guess])[0, len(prompt) - 1 :]
        greedy = tuple(logprobs.argmax(dim=1).tolist())
        right = common_length(greedy, guess)
        return guess if right == len(guess) else greedy[: right + 1]

    def _continue(self, prompts: Sequence[Ids], **how: Any) -> list[Ids]:
        """The new tokens after each prompt, including special tokens."""
        continuations: dict[int, Ids] = {}
        pad = self._tokenizer.pad_token_id
        how["pad_token_id"] = self._tokenizer.eos_token_id if pad is None else pad
        for rows in _by_length(prompts):
            batch = self._batch([prompts[row] for row in rows])
            generate: Any = self._model.generate
            with torch.no_grad():
                new = generate(batch, attention_mask=torch.ones_like(batch), **how)
            kept = new[:, batch.shape[1] :].tolist()
            continuations.update({row: tuple(ids) for row, ids in zip(rows, kept, strict=True)})
        return [continuations[row] for row in range(len(prompts))]

    def _force(self, start: Ids, target: Ids) -> Forced:
        at = self._logprobs([start + target])[0, -len(target) - 1 : -1]
        likely = at.gather(1, torch.tensor(target, device=at.device)[:, None])
        return Forced(target, tuple(at.argmax(dim=1).tolist()), -float(likely.mean()))

    def _next(self, prompts: Sequence[str]) -> list[Tensor]:
        """The next token's log-probabilities for each prompt, each [vocabulary]."""
        ids = [self._plain(prompt) for prompt in prompts]
        by_row: dict[int, Tensor] = {}
        for rows in _by_length(ids):
            logprobs = self._logprobs([ids[row] for row in rows])
            by_row.update({row: text[-1] for row, text in zip(rows, logprobs, strict=True)})
        return [by_row[row] for row in range(len(ids))]

    def _logprobs(self, texts: Sequence[Ids]) -> Tensor:
        """float32 [texts, length, vocabulary] of texts of one length."""
        with torch.no_grad():
            logits = self._model(input_ids=self._batch(texts)).logits
        return torch.log_softmax(logits.float(), dim=-1)

    def _batch(self, texts: Sequence[Ids]) -> Tensor:
        return torch.tensor(texts, device=self._model.device)


def _ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[Ids]:
    """The tokens that end an answer, each as a tuple."""
    config: Any = model.generation_config
    ends = config.eos_token_id if config is not None else None
    ends = tokenizer.eos_token_id if ends is None else ends
    return frozenset((end,) for end in (ends if isinstance(ends, list) else [ends]))


def _by_length(texts: Sequence[Ids]) -> Iterator[list[int]]:
    """The indices of the texts, in batches of one length each."""
    lengths: dict[int, list[int]] = {}
    for row, ids in enumerate(texts):
        lengths.setdefault(len(ids), []).append(row)
    for rows in lengths.values():
        for start in range(0, len(rows), _BATCH):
            yield rows[start : start + _BATCH]
