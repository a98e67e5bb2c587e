"""A model behind a server: generated answers, teacher forcing and log-probabilities.

Answers come from plain requests with one prompt, because some methods support only these.

Memory methods select facts by the text of a request, so a prompt sent as text must not contain the
target. For teacher forcing, the prompt is sent alone, and vLLM returns the token ids that it served
(with the facts in front). These ids and those of the target are then sent as tokens, which memory
edits do not change. Merged weight edits affect all requests.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

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
from vllm_edit.evaluation.server_client import ServerClient

OTHER_MODEL_METHODS = frozenset({"serac"})
"""Methods that may let another model answer."""

DECOMPOSING_METHODS = frozenset({"mello"})
"""Methods that decompose a question on request and then answer several prompts."""

Request = tuple[str, bool]
"""A prompt, and whether MeLLo may decompose it."""

_CHUNK = 32
_THREADS = 8

T = TypeVar("T")
R = TypeVar("R")


class ServedModel:
    """A server's model as a `Model`. Raises EditError if the server does not answer."""

    def __init__(self, connection: ServerClient, model: str, max_tokens: int = MAX_TOKENS) -> None:
        self._connection = connection
        self._model = model
        self._max_tokens = max_tokens
        self._tokens: dict[str, Ids] = {}

    def generate(self, questions: Iterable[Question]) -> Answers:
        """As `answer`, but without teacher forcing, which is much faster."""
        return {q: Answer(text, None) for q, (text, _) in self._generated(questions).items()}

    def answer(self, questions: Iterable[Question]) -> Answers:
        generated = self._generated(questions)
        own = [question for question, (_, by_itself) in generated.items() if by_itself]
        prompts = list(dict.fromkeys(question.prompt for question in own))
        served = dict(zip(prompts, self._served_ids(prompts), strict=True))
        forced = dict(zip(own, self._force([(q, served[q.prompt]) for q in own]), strict=True))
        return {q: Answer(text, forced.get(q)) for q, (text, _) in generated.items()}

    def top_logprobs(self, prompts: Sequence[str]) -> list[dict[int, float]]:
        choices = self._complete(prompts, max_tokens=1, logprobs=TOP)
        return [_logprobs(choice) for choice in choices]

    def logprobs_of(
        self, prompts: Sequence[str], tokens: Sequence[Iterable[int]]
    ) -> list[dict[int, float]]:
        return _in_parallel(self._logprobs_of, list(zip(prompts, map(list, tokens), strict=True)))

    def _logprobs_of(self, request: tuple[str, list[int]]) -> dict[int, float]:
        prompt, tokens = request
        (choice,) = self._complete([prompt], max_tokens=1, logprobs=TOP, logprob_token_ids=tokens)
        logprobs = _logprobs(choice)
        return {token: logprobs[token] for token in tokens}

    def sample(self, prompts: Sequence[str], seed: int) -> list[str]:
        choices = self._complete(prompts, seed=seed, ignore_eos=True, **FLUENCY)
        return [f"{p}{choice['text']}" for p, choice in zip(prompts, choices, strict=True)]

    def _generated(self, questions: Iterable[Question]) -> dict[Question, tuple[str, bool]]:
        """Each different question with the result of `_generate`."""
        requests = {question: (question.prompt, question.hops) for question in questions}
        different = list(dict.fromkeys(requests.values()))
        results = dict(zip(different, _in_parallel(self._generate, different), strict=True))
        return {question: results[request] for question, request in requests.items()}

    def _generate(self, request: Request) -> tuple[str, bool]:
        """The greedy continuation, and whether the served model itself answered this prompt."""
        prompt, hops = request
        body = {"model": self._model, "prompt": prompt, "temperature": 0.0}
        body |= {"max_tokens": self._max_tokens} | ({"edit_hops": True} if hops else {})
        reply, methods = self._connection.complete(body)
        text: str = reply["choices"][0]["text"]
        others = OTHER_MODEL_METHODS | DECOMPOSING_METHODS if hops else OTHER_MODEL_METHODS
        return text.strip(), not others & set(methods.split(","))

    def _served_ids(self, prompts: Sequence[str]) -> list[Ids]:
        """The token ids that the engine gets for each prompt, with facts in front."""
        choices = self._complete(prompts, max_tokens=1, return_token_ids=True)
        return [tuple(choice["prompt_token_ids"]) for choice in choices]

    def _force(self, prompts: Sequence[tuple[Question, Ids]]) -> list[Forced]:
        """Force each question's target after the served ids of its prompt.

        One request per position, because `prompt_logprobs` crash an engine with adapters.
        """
        parts = _in_parallel(self._with_target, prompts)
        steps = [
            ((*start, *target[:number]), token)
            for start, target in parts
            for number, token in enumerate(target)
        ]
        tokens = iter([token for chunk in _chunks(steps) for token in self._next_tokens(chunk)])
        forced = []
        for _, target in parts:
            greedy, logprobs = zip(*islice(tokens, len(target)), strict=True)
            forced.append(Forced(target, greedy, -sum(logprobs) / len(target)))
        return forced

    def _next_tokens(self, steps: Sequence[tuple[Ids, int]]) -> list[tuple[int, float]]:
        """For each text: its greedy next token, and the log-probability of the given token."""
        tokens = sorted({token for _, token in steps})
        texts = [list(text) for text, _ in steps]
        choices = self._complete(texts, max_tokens=1, logprobs=TOP, logprob_token_ids=tokens)
        return [
            (_id(choice["logprobs"]["tokens"][0]), _logprobs(choice)[token])
            for choice, (_, token) in zip(choices, steps, strict=True)
        ]

    def _with_target(self, prompt: tuple[Question, Ids]) -> tuple[Ids, Ids]:
        question, served = prompt
        alone = self._tokenized(question.prompt)
        return seam(served, alone, self._tokenized(joined_text(question)))

    def _tokenized(self, text: str) -> Ids:
        if text not in self._tokens:
            reply = self._connection.post("/tokenize", {"model": self._model, "prompt": text})
            self._tokens[text] = tuple(reply["tokens"])
        return self._tokens[text]

    def _complete(self, prompts: Sequence[Any], **more: Any) -> list[dict[str, Any]]:
        body = {
            "model": self._model,
            "temperature": 0.0,
            "return_tokens_as_token_ids": True,
            **more,
        }
        choices: list[dict[str, Any]] = []
        for chunk in _chunks(prompts):
            reply = self._connection.post("/v1/completions", {**body, "prompt": chunk})
            choices += sorted(reply["choices"], key=lambda choice: int(choice["index"]))
        return choices


def _in_parallel(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Call the function for each item in threads; results are in the order of the items."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(function, items))


def _chunks(prompts: Sequence[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(prompts), _CHUNK):
        yield list(prompts[start : start + _CHUNK])


def _id(token: str) -> int:
    return int(token.removeprefix("token_id:"))


def _logprobs(choice: Mapping[str, Any]) -> dict[int, float]:
    (values,) = choice["logprobs"]["top_logprobs"]
    return {_id(token): value for token, value in values.items()}
