"""Judges edits by what the server answers before and with them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from vllm_edit.domain.edit import Edit, EditRequest
from vllm_edit.domain.errors import EditError, ProbesFailed
from vllm_edit.domain.probe import Score, Scores
from vllm_edit.domain.scoring import exact_match, mean, unchanged
from vllm_edit.probes.made_probes import rephrasings, unrelated_prompts
from vllm_edit.probes.metrics import ASKED

RELIABILITY = "reliability"
GENERALIZATION = "generalization"
LOCALITY = "locality"

_QUOTE_CHARS = 80


@dataclass(frozen=True)
class Answers:
    """The text answered to each prompt, or for ``refused`` ones the reason why there is none."""

    texts: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)


class Asker(Protocol):
    """Asks a variant of the served model."""

    async def ask(self, variant: str, prompts: Sequence[str]) -> Answers:
        """The greedy answers that a client of the variant would get.

        Raises Unavailable if they take too long.
        """


@dataclass(frozen=True)
class ProbeGroup:
    """Prompts that one measure of an edit is taken from, and its threshold.

    ``made`` says whether the server made the prompts. ``expected`` are the right answers, or None
    if the right answer is the one from before the edit.
    """

    measure: str
    made: bool
    threshold: float
    prompts: Sequence[str]
    expected: Sequence[str] | None = None


@dataclass(frozen=True)
class Baseline:
    """Edits to be judged in a variant, and the answers there before they take effect.

    An answer in ``with_set`` counts as unchanged too: another edit of the set causes it.
    """

    variant: str
    edits: Sequence[tuple[Edit, Sequence[ProbeGroup]]]
    before: Answers
    with_set: Answers = Answers()


class ProbeGate:
    """Asks about edits before they take effect, and again with them.

    ``controls`` are prompts that no edit should affect. They are asked with made probes.
    """

    def __init__(self, asker: Asker, controls: Sequence[str] = ()) -> None:
        self._asker = asker
        self._controls = controls

    async def take_baseline(
        self,
        edits: Sequence[Edit],
        variant: str,
        active: Iterable[Edit],
        set_variant: str | None = None,
    ) -> Baseline:
        """Ask what should not change, before the edits take effect.

        ``active`` are the edits in effect in the variant, the latest first. ``set_variant`` is a
        variant in which all the edits are in effect already. If a prompt names the subject of
        another of the edits, its answer there counts as unchanged.

        Raises ProbesFailed if the prompts are not answered in time.
        """
        unrelated: Sequence[str] = ()
        if any(edit.request.probes and edit.request.probes.made for edit in edits):
            unrelated = unrelated_prompts(edits, active, self._controls)
        judged = [(e, groups) for e in edits if (groups := [*_groups(e.request, unrelated)])]
        unchanging = [g for _, groups in judged for g in groups if g.expected is None]
        before = await self._ask(judged, variant, _prompts(unchanging))
        if set_variant is None:
            return Baseline(variant, judged, before)
        ambiguous = _naming_other_subjects(judged, edits)
        return Baseline(variant, judged, before, await self._ask(judged, set_variant, ambiguous))

    async def judge(self, baseline: Baseline) -> Scores:
        """Score the edits, which are in effect now; raises ProbesFailed if one is below."""
        all_groups = [group for _, groups in baseline.edits for group in groups]
        after = await self._ask(baseline.edits, baseline.variant, _prompts(all_groups))
        scores: dict[str, list[Score]] = {}
        reasons: dict[str, str] = {}
        for edit, groups in baseline.edits:
            scores[edit.id] = []
            for group in groups:
                marks = [_mark(group, prompt, baseline, after) for prompt in group.prompts]
                score = Score(group.measure, group.made, len(marks), mean(marks), group.threshold)
                scores[edit.id].append(score)
                if not score.passed and edit.id not in reasons:
                    reasons[edit.id] = _reason(group, score, marks, baseline.before, after)
        if reasons:
            raise ProbesFailed(next(iter(reasons.values())), reasons=reasons, scores=scores)
        return scores

    async def _ask(
        self,
        edits: Sequence[tuple[Edit, Sequence[ProbeGroup]]],
        variant: str,
        prompts: Sequence[str],
    ) -> Answers:
        ASKED.inc(len(prompts))
        try:
            return await self._asker.ask(variant, prompts)
        except EditError as error:
            message = f"Its probes were not answered: {error.message}"
            reasons = dict.fromkeys((edit.id for edit, _ in edits), message)
            raise ProbesFailed(message, reasons=reasons, retry_alone=False) from error


def _groups(request: EditRequest, unrelated: Sequence[str]) -> Iterator[ProbeGroup]:
    probes = request.probes
    if probes is None:
        return
    target = (request.target_new,)
    yield ProbeGroup(RELIABILITY, False, probes.reliability, (request.prompt,), target)
    wide, local = probes.generalization, probes.locality
    if probes.rephrasings:
        yield ProbeGroup(GENERALIZATION, False, wide, probes.rephrasings, target)
    if probes.unchanged:
        yield ProbeGroup(LOCALITY, False, local, probes.unchanged)
    if probes.made:
        yield ProbeGroup(GENERALIZATION, True, wide, rephrasings(request), target)
        if unrelated:
            yield ProbeGroup(LOCALITY, True, local, unrelated)


def _prompts(groups: Iterable[ProbeGroup]) -> list[str]:
    return [*dict.fromkeys(prompt for group in groups for prompt in group.prompts)]


def _naming_other_subjects(
    judged: Sequence[tuple[Edit, Sequence[ProbeGroup]]], edits: Sequence[Edit]
) -> list[str]:
    """Prompts that one edit should not change and that name the subject of another one."""
    subjects = {edit.id: edit.request.subject.casefold() for edit in edits}
    prompts: dict[str, None] = {}
    for edit, groups in judged:
        others = {subject for other, subject in subjects.items() if other != edit.id}
        for prompt in _prompts(group for group in groups if group.expected is None):
            if any(subject in prompt.casefold() for subject in others):
                prompts[prompt] = None
    return [*prompts]


def _mark(group: ProbeGroup, prompt: str, baseline: Baseline, after: Answers) -> float:
    """1 for a prompt that is answered as it should be, else 0."""
    answer = after.texts.get(prompt)
    if answer is None:
        return 0.0
    if group.expected is not None:
        return exact_match(answer, group.expected)
    earlier = (baseline.before.texts.get(prompt), baseline.with_set.texts.get(prompt))
    return max((unchanged(text, answer) for text in earlier if text is not None), default=0.0)


def _reason(
    group: ProbeGroup, score: Score, marks: Sequence[float], before: Answers, after: Answers
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


def _example(group: ProbeGroup, prompt: str, before: Answers, after: Answers) -> str:
    refused = after.refused.get(prompt) or before.refused.get(prompt)
    if refused:
        return f"{_quoted(prompt)} could not be asked ({refused})"
    answer = _quoted(after.texts[prompt])
    if group.expected is None:
        earlier = _quoted(before.texts[prompt])
        return f"{_quoted(prompt)} was answered {earlier}, and with it {answer}"
    return f"{_quoted(prompt)} should be answered {_quoted(group.expected[0])} and was {answer}"


def _quoted(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= _QUOTE_CHARS else line[:_QUOTE_CHARS] + "…")
