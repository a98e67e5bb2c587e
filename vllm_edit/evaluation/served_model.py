"""A model behind a server: generated answers, teacher forcing and log-probabilities.

Answers come from plain requests with one prompt, because some methods support only these.

Memory methods select facts by the text of a request, so a prompt sent as text must not contain the
target. For teacher forcing, the prompt is sent alone, and vLLM returns the token ids that it served
(with the facts in front). These ids and those of the target are then sent as tokens, which memory
edits do not change. Merged weight edits affect all requests.

Requests are sent one after another unless the caller asks for more at once: in bfloat16 an answer
depends on what is computed beside it, so only answers given alone can be compared.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from vllm_edit.domain.errors import EditError, Unavailable
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
    joined_text,
    seam,
)
from vllm_edit.evaluation.server_client import ServerClient

OTHER_MODEL_METHODS = frozenset({"serac"})
"""Methods that may let another model answer."""

DECOMPOSING_METHODS = frozenset({"mello"})
"""Methods that decompose a question on request and then answer several prompts."""

Request = tuple[str, bool, bool]
"""A prompt, whether MeLLo may decompose it, and whether it is a user's message."""

T = TypeVar("T")
R = TypeVar("R")


class ServedModel:
    """A server's model as a `Model`. Raises EditError if the server does not answer."""

    def __init__(
        self,
        connection: ServerClient,
        model: str,
        max_tokens: int = MAX_TOKENS,
        at_once: int = 1,
        in_front: InFront = NOTHING,
    ) -> None:
        self._connection = connection
        self._model = model
        self._max_tokens = max_tokens
        self._at_once = at_once
        self._in_front = in_front
        self._tokens: dict[str, Ids] = {}
        self._chats: bool | None = None

    @property
    def can_chat(self) -> bool:
        if self._chats is None:
            try:
                self._chat("Hello", max_tokens=1)
                self._chats = True
            except Unavailable:
                raise
            except EditError:
                self._chats = False
        return self._chats

    def generate(self, questions: Iterable[Question]) -> Answers:
        """As `answer`, but without teacher forcing, which is much faster."""
        return {
            q: Answer(one.text, None, one.tokens) for q, one in self._generated(questions).items()
        }

    def answer(self, questions: Iterable[Question]) -> Answers:
        generated = self._generated(questions)
        own = [question for question, one in generated.items() if one.by_itself]
        prompts = list(dict.fromkeys(question.prompt for question in own))
        served = dict(zip(prompts, self._served_ids(prompts), strict=True))
        forced = dict(zip(own, self._force([(q, served[q.prompt]) for q in own]), strict=True))
        return {q: Answer(one.text, forced.get(q), one.tokens) for q, one in generated.items()}

    def top_logprobs(self, prompts: Sequence[str]) -> list[dict[int, float]]:
        choices = self._complete(self._shown(prompts), max_tokens=1, logprobs=TOP)
        return [_logprobs(choice) for choice in choices]

    def logprobs_of(
        self, prompts: Sequence[str], tokens: Sequence[Iterable[int]]
    ) -> list[dict[int, float]]:
        return self._in_parallel(
            self._logprobs_of, list(zip(prompts, map(list, tokens), strict=True))
        )

    def _logprobs_of(self, request: tuple[str, list[int]]) -> dict[int, float]:
        prompt, tokens = request
        (choice,) = self._complete(
            self._shown([prompt]), max_tokens=1, logprobs=TOP, logprob_token_ids=tokens
        )
        logprobs = _logprobs(choice)
        return {token: logprobs[token] for token in tokens}

    def sample(self, prompts: Sequence[str], seed: int) -> list[str]:
        shown = self._shown(prompts)
        choices = self._complete(shown, seed=seed, ignore_eos=True, **FLUENCY)
        return [f"{p}{choice['text']}" for p, choice in zip(prompts, choices, strict=True)]

    def _generated(self, questions: Iterable[Question]) -> dict[Question, "_Generated"]:
        """Each different question with the result of `_generate`."""
        requests = {
            question: (question.prompt, question.hops, question.chat) for question in questions
        }
        different = list(dict.fromkeys(requests.values()))
        results = dict(zip(different, self._in_parallel(self._generate, different), strict=True))
        return {question: results[request] for question, request in requests.items()}

    def _generate(self, request: Request) -> "_Generated":
        """The greedy continuation, or the answer to a chat."""
        prompt, hops, chat = request
        if chat:
            choice = self._chat(prompt, max_tokens=self._max_tokens)
            text = choice["message"]["content"] or ""
            return _Generated(text.strip(), _tokens(choice), False)
        body = {"model": self._model, "prompt": self._in_front.text(prompt), "temperature": 0.0}
        body |= {"max_tokens": self._max_tokens, "return_token_ids": True}
        body |= {"edit_hops": True} if hops else {}
        reply, methods = self._connection.complete(body)
        (choice,) = reply["choices"]
        others = OTHER_MODEL_METHODS | DECOMPOSING_METHODS if hops else OTHER_MODEL_METHODS
        by_itself = not others & set(methods.split(","))
        return _Generated(choice["text"].strip(), _tokens(choice), by_itself)

    def _chat(self, prompt: str, max_tokens: int) -> dict[str, Any]:
        messages = self._in_front.chat(({"role": "user", "content": prompt},))
        body = {"model": self._model, "messages": list(messages), "temperature": 0.0}
        body |= {"max_tokens": max_tokens, "return_token_ids": True}
        (choice,) = self._connection.post("/v1/chat/completions", body)["choices"]
        return dict(choice)

    def _shown(self, prompts: Sequence[str]) -> list[str]:
        return [self._in_front.text(prompt) for prompt in prompts]

    def _served_ids(self, prompts: Sequence[str]) -> list[Ids]:
        """The token ids that the engine gets for each prompt, with facts in front."""
        choices = self._complete(self._shown(prompts), max_tokens=1, return_token_ids=True)
        return [tuple(choice["prompt_token_ids"]) for choice in choices]

    def _force(self, prompts: Sequence[tuple[Question, Ids]]) -> list[Forced]:
        """Force each question's target after the served ids of its prompt.

        One request per position, because `prompt_logprobs` crash an engine with adapters.
        """
        parts = self._in_parallel(self._with_target, prompts)
        steps = [
            ((*start, *target[:number]), token)
            for start, target in parts
            for number, token in enumerate(target)
        ]
        tokens = iter(
            [token for chunk in self._chunks(steps) for token in self._next_tokens(chunk)]
        )
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
        for chunk in self._chunks(prompts):
            reply = self._connection.post("/v1/completions", {**body, "prompt": chunk})
            choices += sorted(reply["choices"], key=lambda choice: int(choice["index"]))
        return choices

    def _in_parallel(self, function: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """Call the function for each item; results are in the order of the items."""
        if self._at_once == 1:
            return [function(item) for item in items]
        with ThreadPoolExecutor(self._at_once) as pool:
            return list(pool.map(function, items))

    def _chunks(self, prompts: Sequence[Any]) -> Iterator[list[Any]]:
        """Prompts that are computed together."""
        for start in range(0, len(prompts), self._at_once):
            yield list(prompts[start : start + self._at_once])


@dataclass(frozen=True)
class _Generated:
    """What was generated, and whether the served model itself answered this prompt."""

    text: str
    tokens: Ids | None
    by_itself: bool


def _tokens(choice: Mapping[str, Any]) -> Ids | None:
    ids = choice.get("token_ids")
    return None if ids is None else tuple(ids)


def _id(token: str) -> int:
    return int(token.removeprefix("token_id:"))


def _logprobs(choice: Mapping[str, Any]) -> dict[int, float]:
    (values,) = choice["logprobs"]["top_logprobs"]
    return {_id(token): value for token, value in values.items()}
