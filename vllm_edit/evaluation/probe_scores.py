"""Scores probes by answers: each way of comparing an answer, by name."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from vllm_edit.domain.scoring import mean, token_match
from vllm_edit.evaluation.question import Answer, Answers, Question
from vllm_edit.evaluation.record import Probe
from weight_patchers.wording import begins_with, exact_match, first_word, runs_on, unchanged

GENERATED = "generated"
FORCED = "teacher_forced"
BEGINS = "begins"
RUN_ON = "run_on"
"""Of the answers that begin with the target, the share that goes on behind it."""
FIRST_WORD = "first_word"
SIX_TOKENS = "six_tokens"
_SIX = 6

RIGHT = (GENERATED, BEGINS, RUN_ON, FORCED)
SAME = (GENERATED, FIRST_WORD, SIX_TOKENS, FORCED)

Scores = dict[str, float]
"""By way of comparing. One that is not available is left out."""


def probe_questions(probe: Probe) -> Iterator[Question]:
    """The question of each wording."""
    for prompt in probe.prompts:
        yield Question(prompt, probe.answers[0], probe.hops)


def right(probe: Probe, after: Answers) -> Scores:
    """The best wording's scores; the run-on rate is that of all wordings that are told."""
    answers = [after[question] for question in probe_questions(probe)]
    scores = {
        GENERATED: max(exact_match(answer.generated, probe.answers) for answer in answers),
        BEGINS: max(_begins(answer, probe) for answer in answers),
    }
    run_on = [value for a in answers if (value := runs_on(a.generated, probe.answers)) is not None]
    if run_on:
        scores[RUN_ON] = mean(run_on)
    forced = [token_match(a.forced.greedy, a.forced.target) for a in answers if a.forced]
    if len(forced) == len(answers):
        scores[FORCED] = max(forced)
    return scores


def same(probe: Probe, before: Answers, after: Answers) -> Scores:
    """The share of answers that did not change, over all wordings."""
    pairs = [(before[question], after[question]) for question in probe_questions(probe)]
    compared: dict[str, list[float | None]] = {
        GENERATED: [unchanged(old.generated, new.generated) for old, new in pairs],
        FIRST_WORD: [
            float(first_word(old.generated) == first_word(new.generated)) for old, new in pairs
        ],
        SIX_TOKENS: [_first_tokens(old, new) for old, new in pairs],
        FORCED: [_agreement(old, new) for old, new in pairs],
    }
    return {
        way: mean(known)
        for way, values in compared.items()
        if len(known := [value for value in values if value is not None]) == len(pairs)
    }


def scored(name: str, probes: Sequence[Probe], score: Callable[[Probe], Scores]) -> Scores:
    """The mean scores of the probes, by `name`/way; of those that all of them have.

    The run-on rate is the mean of those probes that have one.
    """
    found = [score(probe) for probe in probes]
    ways = dict.fromkeys(way for one in found for way in one)
    scores = {}
    for way in ways:
        values = [one[way] for one in found if way in one]
        if way == RUN_ON or len(values) == len(found):
            scores[f"{name}/{way}"] = mean(values)
    return scores


def grouped(
    group: str, probes: Mapping[str, Sequence[Probe]], score: Callable[[Probe], Scores]
) -> Scores:
    """Each kind's scores, and the group's: the mean of its kinds in ways that all of them have."""
    by_kind = [scored(f"{group}.{kind}", of_kind, score) for kind, of_kind in probes.items()]
    scores = {name: value for one in by_kind for name, value in one.items()}
    for way in dict.fromkeys(name.partition("/")[2] for name in scores):
        values = [value for name, value in scores.items() if name.endswith(f"/{way}")]
        if len(values) == len(probes):
            scores[f"{group}/{way}"] = mean(values)
    return scores


def _begins(answer: Answer, probe: Probe) -> float:
    return max(begins_with(answer.generated, right) for right in probe.answers)


def _first_tokens(old: Answer, new: Answer) -> float | None:
    if old.tokens is None or new.tokens is None:
        return None
    return float(old.tokens[:_SIX] == new.tokens[:_SIX])


def _agreement(old: Answer, new: Answer) -> float | None:
    if old.forced is None or new.forced is None:
        return None
    return token_match(new.forced.greedy, old.forced.greedy)
