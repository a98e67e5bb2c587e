"""Judges deltas by what the edited model answers, compared with the base."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from weight_patchers.applied import applied
from weight_patchers.delta import Delta
from weight_patchers.errors import UnsupportedTokenizer
from weight_patchers.model.tokenization import target_ids
from weight_patchers.tuning.asking import answers
from weight_patchers.tuning.cases import Case
from weight_patchers.values.contexts import Context, chat_context
from weight_patchers.wording import begins_with, first_word, says

KEPT_TOKENS = 6
TOLD_WANTED = 0.97
"""Settings that tell a smaller share of their edits lose more by it than others can win."""


@dataclass(frozen=True)
class Scores:
    """Shares over `count` edits, from greedy answers in float32.

    `told`: the answer to the bare prompt begins with the target; `chat`: likewise to the prompt as
    a user's message, None without a template; `reworded`: likewise to other wordings. Of answers
    about other subjects, `kept_word` have the base's first word and `kept_six` its first six
    tokens; `leak` name the target though the base's answer does not. `drift` is the mean of the
    deltas' own, in nats; `seconds` the time to compute an edit.
    """

    count: int
    told: float
    chat: float | None
    reworded: float | None
    kept_word: float
    kept_six: float
    leak: float
    drift: float
    seconds: float

    @property
    def quality(self) -> float:
        """The mean of how far the edit reaches (reworded, and half as much in chat form) and of
        what is kept."""
        reach = [(self.reworded, 1.0), (self.chat, 0.5)]
        parts = [(value, weight) for value, weight in reach if value is not None]
        total = sum(weight for _, weight in parts)
        general = sum(v * w for v, w in parts) / total if parts else self.told
        return (general + (self.kept_word + self.kept_six) / 2) / 2

    @property
    def value(self) -> float:
        """What the search maximises: quality of edits that are told, less what leaks and drifts."""
        missing = max(0.0, TOLD_WANTED - self.told)
        return self.quality - 4 * missing - self.leak - min(self.drift, 1.0)


@dataclass(eq=False)
class Judge:
    """Asks one model, which holds its base weights between calls."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    _base: dict[tuple[tuple[str, ...], int], list[str]] = field(default_factory=dict)
    _chat: Context | None = None

    def __post_init__(self) -> None:
        with suppress(UnsupportedTokenizer):
            self._chat = chat_context(self.tokenizer)

    @property
    def has_chat(self) -> bool:
        """Whether there is a chat template that shows messages as they are."""
        return self._chat is not None

    def scores(self, groups: Sequence[tuple[Delta, Sequence[Case]]], seconds: float) -> Scores:
        """Scores of the deltas, each alone on the base and asked about its cases."""
        marks: dict[str, list[float]] = {
            name: [] for name in ("told", "chat", "reworded", "kept_word", "kept_six", "leak")
        }
        for delta, cases in groups:
            prompts = [prompt for case in cases for prompt in self._prompts(case)]
            tokens = max(KEPT_TOKENS, *(self._length(case) for case in cases))
            before = self._answers_of_base(tuple(prompts), tokens)
            with applied(self.model, [delta]):
                after = answers(self.model, self.tokenizer, prompts, tokens)
            pairs = iter(zip(before, after, strict=True))
            for case in cases:
                self._mark(case, pairs, marks)
        mean = {name: sum(m) / len(m) if m else None for name, m in marks.items()}
        return Scores(
            count=sum(len(cases) for _, cases in groups),
            told=mean["told"] or 0.0,
            chat=mean["chat"],
            reworded=mean["reworded"],
            kept_word=mean["kept_word"] or 0.0,
            kept_six=mean["kept_six"] or 0.0,
            leak=mean["leak"] or 0.0,
            drift=sum(d.diagnostics["drift"]["mean"] for d, _ in groups) / len(groups),
            seconds=seconds,
        )

    def _mark(
        self, case: Case, pairs: Iterator[tuple[str, str]], marks: dict[str, list[float]]
    ) -> None:
        target = case.edit.target_new
        marks["told"].append(begins_with(next(pairs)[1], target))
        if self._chat is not None:
            marks["chat"].append(begins_with(next(pairs)[1], target))
        for _ in case.rewordings:
            marks["reworded"].append(begins_with(next(pairs)[1], target))
        for _ in case.neighbours:
            old, new = next(pairs)
            marks["kept_word"].append(first_word(old) == first_word(new))
            marks["kept_six"].append(self._six(old) == self._six(new))
            marks["leak"].append(says(new, [target]) and not says(old, [target]))

    def _prompts(self, case: Case) -> Iterator[str]:
        yield case.edit.prompt
        if self._chat is not None:
            yield f"{self._chat.before}{case.edit.prompt}{self._chat.after}"
        yield from case.rewordings
        yield from case.neighbours

    def _length(self, case: Case) -> int:
        return len(target_ids(self.tokenizer, case.edit.prompt, case.edit.target_new)) + 1

    def _six(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"][:KEPT_TOKENS])

    def _answers_of_base(self, prompts: tuple[str, ...], tokens: int) -> list[str]:
        key = prompts, tokens
        if key not in self._base:
            self._base[key] = answers(self.model, self.tokenizer, prompts, tokens)
        return self._base[key]


def front(values: Sequence[Sequence[float]]) -> list[bool]:
    """For each point whether no other is at least as good in all coordinates and better in one."""
    return [
        not any(
            all(a >= b for a, b in zip(other, point, strict=True)) and tuple(other) != tuple(point)
            for other in values
        )
        for point in values
    ]
