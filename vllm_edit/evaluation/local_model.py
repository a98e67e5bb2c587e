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
from weight_patchers.model.batch import pad
from weight_patchers.model.suffix import logits_at
from weight_patchers.tuning.asking import padded_left, padding

_BATCH = 16

Served = tuple[str, bool]
"""A prompt, and whether it is a user's message."""


class LocalModel:
    """A model in this process as a `Model`; `in_front` puts facts in front of what it reads.

    In a coarser type than float32 each question is a batch of its own, so that no answer depends on
    what is asked beside it, nor on what was answered before. In float32 that makes no difference
    but rounding: questions are answered together, and an earlier answer to the same tokens is a
    guess that one pass checks: as far as it is what the model would say, it need not be generated
    again.
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
        said = self._greedy(list(dict.fromkeys(served.values())))
        plain = [q for q in questions if not q.chat]
        targets = [self._with_target(q, served[q.prompt, False]) for q in plain]
        forced = dict(zip(plain, self._force(targets), strict=True))
        answers: dict[Question, Answer] = {}
        for q in questions:
            tokens = said[served[q.prompt, q.chat]]
            answers[q] = Answer(self._text(tokens).strip(), forced.get(q), tokens)
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

    @property
    def _exact(self) -> bool:
        """Whether what a pass gives is independent of what else is in it, up to rounding."""
        return self._model.dtype == torch.float32

    def _groups(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """The indices of texts of these lengths, in groups that one pass reads."""
        by_length = sorted(range(len(lengths)), key=lengths.__getitem__)
        size = _BATCH if self._exact else 1
        for start in range(0, len(by_length), size):
            yield by_length[start : start + size]

    def _greedy(self, prompts: Sequence[Ids]) -> dict[Ids, Ids]:
        """The greedy answers, each with the token that ends it if there is one."""
        answers: dict[Ids, Ids] = {}
        for group in self._groups([len(prompt) for prompt in prompts]):
            chosen = [prompts[index] for index in group]
            answers |= zip(chosen, self._checked(chosen), strict=True)
            if left := [prompt for prompt in chosen if not self._is_whole(answers[prompt])]:
                starts = [prompt + answers[prompt] for prompt in left]
                most = self._max_tokens - min(len(answers[prompt]) for prompt in left)
                new = self._continue(starts, do_sample=False, max_new_tokens=most)
                for prompt, more in zip(left, new, strict=True):
                    answers[prompt] = self._cut(answers[prompt] + more)
        self._guesses |= answers
        return answers

    def _is_whole(self, answer: Ids) -> bool:
        return len(answer) >= self._max_tokens or answer[-1:] in self._ends

    def _cut(self, answer: Ids) -> Ids:
        """The answer up to its end: behind it, a row of a batch is padded."""
        for length in range(1, len(answer) + 1):
            if self._is_whole(answer[:length]):
                return answer[:length]
        return answer

    def _checked(self, prompts: Sequence[Ids]) -> list[Ids]:
        """The part of each prompt's guess that is greedy, with the greedy token behind it."""
        guesses = [self._guesses.get(prompt, ()) if self._exact else () for prompt in prompts]
        known = [row for row, guess in enumerate(guesses) if guess]
        found: list[Ids] = [()] * len(prompts)
        pairs = [(prompts[row], guesses[row]) for row in known]
        for row, logprobs in zip(known, self._behind(pairs), strict=True):
            greedy, guess = tuple(logprobs.argmax(dim=1).tolist()), guesses[row]
            right = common_length(greedy, guess)
            found[row] = guess if right == len(guess) else greedy[: right + 1]
        return found

    def _continue(self, texts: Sequence[Ids], **how: Any) -> list[Ids]:
        """The new tokens behind each text, including special tokens and, if others are longer,
        padding."""
        continuations: dict[int, Ids] = {}
        generate: Any = self._model.generate
        for group in self._groups([len(text) for text in texts]):
            chosen = [texts[index] for index in group]
            batch = padded_left(self._tokenizer, chosen, self._model.device)
            with torch.no_grad():
                new = generate(
                    input_ids=batch.ids,
                    attention_mask=batch.mask,
                    pad_token_id=padding(self._tokenizer),
                    **how,
                )
            kept = new[:, batch.ids.shape[1] :].tolist()
            continuations.update(zip(group, map(tuple, kept), strict=True))
        return [continuations[index] for index in range(len(texts))]

    def _force(self, pairs: Sequence[tuple[Ids, Ids]]) -> list[Forced]:
        """How likely each target is behind its start."""
        forced = []
        for (_, target), logprobs in zip(pairs, self._behind(pairs), strict=True):
            likely = logprobs.gather(1, torch.tensor(target, device=logprobs.device)[:, None])
            greedy = tuple(logprobs.argmax(dim=1).tolist())
            forced.append(Forced(target, greedy, -float(likely.mean())))
        return forced

    def _behind(self, pairs: Sequence[tuple[Ids, Ids]]) -> list[Tensor]:
        """The log-probabilities at each token of an end that stands behind a start."""
        places = [range(len(start) - 1, len(start) + len(end) - 1) for start, end in pairs]
        return self._logprobs([start + end for start, end in pairs], places)

    def _next(self, prompts: Sequence[str]) -> list[Tensor]:
        """The next token's log-probabilities for each prompt, each [vocabulary]."""
        ids = [self._plain(prompt) for prompt in prompts]
        places = [range(len(text) - 1, len(text)) for text in ids]
        return [logprobs[0] for logprobs in self._logprobs(ids, places)]

    def _logprobs(self, texts: Sequence[Ids], places: Sequence[range]) -> list[Tensor]:
        """What follows at these places of each text, float32 [places, vocabulary]."""
        device = self._model.device
        found: dict[int, Tensor] = {}
        for group in self._groups([len(text) for text in texts]):
            batch = pad([texts[index] for index in group], device)
            chosen = [(row, column) for row, i in enumerate(group) for column in places[i]]
            rows, columns = torch.tensor(chosen, device=device).T
            with torch.no_grad():
                logits = logits_at(self._model, batch, rows, columns).float()
            parts = logits.log_softmax(-1).split([len(places[index]) for index in group])
            found.update(zip(group, parts, strict=True))
        return [found[index] for index in range(len(texts))]


def _ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[Ids]:
    """The tokens that end an answer, each as a tuple."""
    config: Any = model.generation_config
    ends = config.eos_token_id if config is not None else None
    ends = tokenizer.eos_token_id if ends is None else ends
    return frozenset((end,) for end in (ends if isinstance(ends, list) else [ends]))
