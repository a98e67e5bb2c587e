"""A model in plain Transformers that answers the same questions as a served one."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vllm_edit.evaluation.question import (
    FLUENCY,
    MAX_TOKENS,
    TOP,
    Answer,
    Answers,
    Forced,
    Ids,
    Question,
    joined_text,
    seam,
)

_BATCH = 32


class LocalModel:
    """A model in this process as a `Model`; `routed` puts facts in front of a prompt.

    Texts with the same number of tokens form a batch, so no padding is needed.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        routed: Callable[[str], str],
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._routed = routed

    def answer(self, questions: Iterable[Question]) -> Answers:
        questions = list(dict.fromkeys(questions))
        prompts = {q.prompt: self._ids(self._routed(q.prompt)) for q in questions}
        texts = dict(zip(prompts, self._generate(list(prompts.values())), strict=True))
        forced = self._force([self._with_target(q, prompts[q.prompt]) for q in questions])
        return {q: Answer(texts[q.prompt], f) for q, f in zip(questions, forced, strict=True)}

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
        ids = [self._ids(self._routed(prompt)) for prompt in prompts]
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

    def _text(self, tokens: Ids) -> str:
        return cast("str", self._tokenizer.decode(list(tokens), skip_special_tokens=True))

    def _with_target(self, question: Question, served: Ids) -> tuple[Ids, Ids]:
        alone, whole = self._ids(question.prompt), self._ids(joined_text(question))
        return seam(served, alone, whole)

    def _generate(self, prompts: Sequence[Ids]) -> list[str]:
        continuations = self._continue(prompts, do_sample=False, max_new_tokens=MAX_TOKENS)
        return [self._text(tokens).strip() for tokens in continuations]

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

    def _force(self, parts: Sequence[tuple[Ids, Ids]]) -> list[Forced]:
        whole = [start + target for start, target in parts]
        forced: dict[int, Forced] = {}
        for rows in _by_length(whole):
            logprobs = self._logprobs([whole[row] for row in rows])
            for row, text in zip(rows, logprobs, strict=True):
                target = parts[row][1]
                at = text[-len(target) - 1 : -1]
                likely = at.gather(1, torch.tensor(target, device=at.device)[:, None])
                greedy = tuple(at.argmax(dim=1).tolist())
                forced[row] = Forced(target, greedy, -float(likely.mean()))
        return [forced[row] for row in range(len(parts))]

    def _next(self, prompts: Sequence[str]) -> list[Tensor]:
        """The next token's log-probabilities for each prompt, each [vocabulary]."""
        ids = [self._ids(self._routed(prompt)) for prompt in prompts]
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


def _by_length(texts: Sequence[Ids]) -> Iterator[list[int]]:
    """The indices of the texts, in batches of one length each."""
    lengths: dict[int, list[int]] = {}
    for row, ids in enumerate(texts):
        lengths.setdefault(len(ids), []).append(row)
    for rows in lengths.values():
        for start in range(0, len(rows), _BATCH):
            yield rows[start : start + _BATCH]
