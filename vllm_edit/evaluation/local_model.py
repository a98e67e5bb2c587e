"""What a model says in plain Transformers, asked as a server is."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
    """A model in this process, as `Model` says; `routed` puts facts in front of a prompt.

    Texts of one length are computed together, so that none is padded.
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

    def ask(self, questions: Iterable[Question]) -> Answers:
        wanted = list(dict.fromkeys(questions))
        prompts = list(dict.fromkeys(question.prompt for question in wanted))
        served = [self._ids(self._routed(prompt)) for prompt in prompts]
        said = dict(zip(prompts, self._generate(served), strict=True))
        known = dict(zip(prompts, served, strict=True))
        forced = self._force([self._parts(q, known[q.prompt]) for q in wanted])
        return {q: Answer(said[q.prompt], f) for q, f in zip(wanted, forced, strict=True)}

    def top(self, prompts: Sequence[str]) -> list[dict[int, float]]:
        found = [logprobs.topk(TOP) for logprobs in self._next(prompts)]
        return [dict(zip(f.indices.tolist(), f.values.tolist(), strict=True)) for f in found]

    def again(
        self, prompts: Sequence[str], before: Sequence[Mapping[int, float]]
    ) -> list[dict[int, float]]:
        pairs = zip(self._next(prompts), before, strict=True)
        return [{token: float(logprobs[token]) for token in known} for logprobs, known in pairs]

    def write(self, prompts: Sequence[str], seed: int) -> list[str]:
        most, top_k = FLUENCY["max_tokens"], FLUENCY["top_k"]
        ids = [self._ids(self._routed(prompt)) for prompt in prompts]
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            said = self._continue(
                ids,
                do_sample=True,
                temperature=FLUENCY["temperature"],
                top_k=top_k,
                max_new_tokens=most,
                min_new_tokens=most,
            )
        texts = [self._text(tokens) for tokens in said]
        return [f"{prompt}{text}" for prompt, text in zip(prompts, texts, strict=True)]

    def _ids(self, text: str) -> Ids:
        return tuple(self._tokenizer(text).input_ids)

    def _text(self, tokens: Ids) -> str:
        return cast("str", self._tokenizer.decode(list(tokens), skip_special_tokens=True))

    def _parts(self, question: Question, served: Ids) -> tuple[Ids, Ids]:
        alone, whole = self._ids(question.prompt), self._ids(joined_text(question))
        return seam(served, alone, whole)

    def _generate(self, prompts: Sequence[Ids]) -> list[str]:
        said = self._continue(prompts, do_sample=False, max_new_tokens=MAX_TOKENS)
        return [self._text(tokens).strip() for tokens in said]

    def _continue(self, prompts: Sequence[Ids], **how: Any) -> list[Ids]:
        """The new tokens behind each, special ones included."""
        found: dict[int, Ids] = {}
        pad = self._tokenizer.pad_token_id
        how["pad_token_id"] = self._tokenizer.eos_token_id if pad is None else pad
        for rows in _equally_long(prompts):
            batch = self._batch([prompts[row] for row in rows])
            generate: Any = self._model.generate
            with torch.no_grad():
                new = generate(batch, attention_mask=torch.ones_like(batch), **how)
            kept = new[:, batch.shape[1] :].tolist()
            found.update({row: tuple(ids) for row, ids in zip(rows, kept, strict=True)})
        return [found[row] for row in range(len(prompts))]

    def _force(self, parts: Sequence[tuple[Ids, Ids]]) -> list[Forced]:
        whole = [start + target for start, target in parts]
        found: dict[int, Forced] = {}
        for rows in _equally_long(whole):
            logprobs = self._logprobs([whole[row] for row in rows])
            for row, told in zip(rows, logprobs, strict=True):
                target = parts[row][1]
                at = told[-len(target) - 1 : -1]
                likely = at.gather(1, torch.tensor(target, device=at.device)[:, None])
                greedy = tuple(at.argmax(dim=1).tolist())
                found[row] = Forced(target, greedy, -float(likely.mean()))
        return [found[row] for row in range(len(parts))]

    def _next(self, prompts: Sequence[str]) -> list[Tensor]:
        """Log-probabilities of the next token behind each prompt, each (vocabulary)."""
        ids = [self._ids(self._routed(prompt)) for prompt in prompts]
        found: dict[int, Tensor] = {}
        for rows in _equally_long(ids):
            logprobs = self._logprobs([ids[row] for row in rows])
            found.update({row: told[-1] for row, told in zip(rows, logprobs, strict=True)})
        return [found[row] for row in range(len(ids))]

    def _logprobs(self, texts: Sequence[Ids]) -> Tensor:
        """(texts, length, vocabulary) of equally long ones, float32."""
        with torch.no_grad():
            logits = self._model(input_ids=self._batch(texts)).logits
        return torch.log_softmax(logits.float(), dim=-1)

    def _batch(self, texts: Sequence[Ids]) -> Tensor:
        return torch.tensor(texts, device=self._model.device)


def _equally_long(texts: Sequence[Ids]) -> Iterator[list[int]]:
    """Their positions, in parts of one length each."""
    lengths: dict[int, list[int]] = {}
    for row, ids in enumerate(texts):
        lengths.setdefault(len(ids), []).append(row)
    for rows in lengths.values():
        for start in range(0, len(rows), _BATCH):
            yield rows[start : start + _BATCH]
