"""Judges edits by what the server answers before and with them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from vllm_edit.domain.edit import Edit, EditRequest
from vllm_edit.domain.errors import EditError, ProbesFailed
from vllm_edit.domain.probe import Score, Scores
from vllm_edit.domain.scoring import exact_match, mean, unchanged
from vllm_edit.probes import made_probes as making
from vllm_edit.probes.metrics import ASKED

RELIABILITY = "reliability"
GENERALIZATION = "generalization"
LOCALITY = "locality"

_SHOWN = 80


@dataclass(frozen=True)
class Answers:
    """What was said to prompts; or why one could not be asked."""

    said: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)


class Asker(Protocol):
    """Whoever can ask a variant of the served model."""

    async def ask(self, variant: str, prompts: Sequence[str]) -> Answers:
        """The answers that a client of the variant would get, greedily.

        Raises Unavailable when they take too long.
        """


@dataclass(frozen=True)
class Group:
    """Prompts of one kind; ``answers`` are the right ones, or None for what was said before."""

    measure: str
    made: bool
    threshold: float
    prompts: Sequence[str]
    answers: Sequence[str] | None = None


@dataclass(frozen=True)
class Trial:
    """Edits that are to be judged in a variant, and what was said there before them.

    ``others`` are answers that are as good, since it is for other edits to change them.
    """

    variant: str
    edits: Sequence[tuple[Edit, Sequence[Group]]]
    before: Answers
    others: Answers = Answers()


class ProbeGate:
    """Asks about edits before they take effect, and again with them.

    ``controls`` are prompts about which no edit should change anything, for made probes.
    """

    def __init__(self, asker: Asker, controls: Sequence[str] = ()) -> None:
        self._asker = asker
        self._controls = controls

    async def look(
        self,
        edits: Sequence[Edit],
        variant: str,
        live: Iterable[Edit],
        home: str | None = None,
    ) -> Trial:
        """Ask what is to stay as it is; ``live`` edits of the variant come the latest first.

        ``home`` is a variant in which the edits are in effect together already: what is answered
        there is not held against one of them where a prompt names the subject of another.

        Raises ProbesFailed when there is no answer in time.
        """
        others: Sequence[str] = ()
        if any(edit.request.probes and edit.request.probes.made for edit in edits):
            others = making.others(edits, live, self._controls)
        judged = [(edit, groups) for edit in edits if (groups := [*_groups(edit.request, others)])]
        kept = [g for _, groups in judged for g in groups if g.answers is None]
        before = await self._answers(judged, variant, _prompts(kept))
        if home is None:
            return Trial(variant, judged, before)
        return Trial(
            variant, judged, before, await self._answers(judged, home, _shared(judged, edits))
        )

    async def judge(self, trial: Trial) -> Scores:
        """Ask about the edits, which are in effect now; raises ProbesFailed if one falls short."""
        groups = [group for _, groups in trial.edits for group in groups]
        after = await self._answers(trial.edits, trial.variant, _prompts(groups))
        scores: dict[str, Sequence[Score]] = {}
        reasons: dict[str, str] = {}
        for edit, asked in trial.edits:
            found = [(group, _marks(group, trial, after)) for group in asked]
            scores[edit.id] = [_score(group, marks) for group, marks in found]
            for (group, marks), score in zip(found, scores[edit.id], strict=True):
                if not score.passed and edit.id not in reasons:
                    reasons[edit.id] = _reason(group, score, marks, trial.before, after)
        if reasons:
            raise ProbesFailed(next(iter(reasons.values())), reasons=reasons, scores=scores)
        return scores

    async def _answers(
        self,
        edits: Sequence[tuple[Edit, Sequence[Group]]],
        variant: str,
        prompts: Sequence[str],
    ) -> Answers:
        ASKED.inc(len(prompts))
        try:
            return await self._asker.ask(variant, prompts)
        except EditError as error:
            told = f"Its probes were not answered: {error.message}"
            reasons = dict.fromkeys((edit.id for edit, _ in edits), told)
            raise ProbesFailed(told, reasons=reasons, apart=False) from error


def _groups(request: EditRequest, others: Sequence[str]) -> Iterator[Group]:
    probes = request.probes
    if probes is None:
        return
    right = (request.target_new,)
    wider, kept = probes.generalization, probes.locality
    yield Group(RELIABILITY, False, probes.reliability, (request.prompt,), right)
    if probes.rephrasings:
        yield Group(GENERALIZATION, False, wider, probes.rephrasings, right)
    if probes.unchanged:
        yield Group(LOCALITY, False, kept, probes.unchanged)
    if probes.made:
        yield Group(GENERALIZATION, True, wider, making.rephrasings(request), right)
        if others:
            yield Group(LOCALITY, True, kept, others)


def _prompts(groups: Iterable[Group]) -> list[str]:
    return [*dict.fromkeys(prompt for group in groups for prompt in group.prompts)]


def _shared(judged: Sequence[tuple[Edit, Sequence[Group]]], edits: Sequence[Edit]) -> list[str]:
    """What is to stay for one edit's sake and names the subject of another."""
    subjects = {edit.id: edit.request.subject.casefold() for edit in edits}
    found: dict[str, None] = {}
    for edit, groups in judged:
        foreign = {subject for other, subject in subjects.items() if other != edit.id}
        for prompt in _prompts(group for group in groups if group.answers is None):
            if any(subject in prompt.casefold() for subject in foreign):
                found[prompt] = None
    return [*found]


def _marks(group: Group, trial: Trial, after: Answers) -> list[float]:
    """1 for each prompt that is answered as it should be, else 0."""
    return [_mark(group, prompt, trial, after) for prompt in group.prompts]


def _mark(group: Group, prompt: str, trial: Trial, after: Answers) -> float:
    now = after.said.get(prompt)
    if now is None:
        return 0.0
    if group.answers is not None:
        return exact_match(now, group.answers)
    known = (trial.before.said.get(prompt), trial.others.said.get(prompt))
    return max((unchanged(said, now) for said in known if said is not None), default=0.0)


def _score(group: Group, marks: Sequence[float]) -> Score:
    return Score(group.measure, group.made, len(marks), mean(marks), group.threshold)


def _reason(
    group: Group, score: Score, marks: Sequence[float], before: Answers, after: Answers
) -> str:
    prompt = next(p for p, mark in zip(group.prompts, marks, strict=True) if not mark)
    kind = "made probes" if group.made else "the edit's probes"
    if group.measure == RELIABILITY:
        kind = "the edit's own prompt"
    return (
        f"The {group.measure} of {kind} is {score.value:.2f} ({sum(marks):.0f} of {score.asked}), "
        f"and at least {score.threshold:.2f} is wanted: {_example(group, prompt, before, after)}. "
        f"Word the edit or its probes otherwise, use another method, or ask for less "
        f"{group.measure}."
    )


def _example(group: Group, prompt: str, before: Answers, after: Answers) -> str:
    refused = after.refused.get(prompt) or before.refused.get(prompt)
    if refused:
        return f"{_short(prompt)} could not be asked ({refused})"
    now = _short(after.said[prompt])
    if group.answers is None:
        return f"{_short(prompt)} was answered {_short(before.said[prompt])}, and with it {now}"
    return f"{_short(prompt)} should be answered {_short(group.answers[0])} and was {now}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= _SHOWN else line[:_SHOWN] + "…")
