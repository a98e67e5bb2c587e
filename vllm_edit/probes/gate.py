"""Judges edits by what the server answers before and with them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from vllm_edit.domain.edit import Edit, EditRequest
from vllm_edit.domain.errors import EditError, ProbesFailed
from vllm_edit.domain.probe import Score, Scores
from vllm_edit.domain.scoring import mean
from vllm_edit.probes.made_probes import rephrasings, unrelated_prompts
from vllm_edit.probes.metrics import ASKED
from weight_patchers.wording import begins_with, exact_match, unchanged

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

    ``made`` says whether the server made the prompts. ``expected`` is what a right answer begins
    with, or is with ``exact``; None if the right answer is the one from before the edit.
    """

    measure: str
    made: bool
    threshold: float
    prompts: Sequence[str]
    expected: str | None = None
    exact: bool = False


@dataclass(frozen=True)
class Baseline:
    """Edits to be judged in a variant, and the answers there before they take effect.

    ``unsteady`` are prompts that were answered in two ways when they were asked twice: what they
    are answered later says nothing about the edits. An answer in ``with_set`` counts as unchanged
    too: another edit of the set causes it.
    """

    variant: str
    edits: Sequence[tuple[Edit, Sequence[ProbeGroup]]]
    before: Answers
    unsteady: frozenset[str] = frozenset()
    with_set: Answers = Answers()


class ProbeGate:
    """Asks about edits before they take effect, twice, and again with them.

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
        prompts = _prompts(unchanging)
        before = await self._ask(judged, variant, prompts)
        unsteady = _unsteady(before, await self._ask(judged, variant, prompts))
        if set_variant is None:
            return Baseline(variant, judged, before, unsteady)
        ambiguous = _naming_other_subjects(judged, edits)
        with_set = await self._ask(judged, set_variant, ambiguous)
        return Baseline(variant, judged, before, unsteady, with_set)

    async def judge(self, baseline: Baseline) -> Scores:
        """Score the edits, which are in effect now; raises ProbesFailed if one is below."""
        all_groups = [group for _, groups in baseline.edits for group in groups]
        after = await self._ask(baseline.edits, baseline.variant, _prompts(all_groups))
        scores: dict[str, list[Score]] = {}
        reasons: dict[str, str] = {}
        for edit, groups in baseline.edits:
            scores[edit.id] = []
            for group in groups:
                marks = _marks(group, baseline, after)
                score = _score(group, marks)
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
    told = partial(ProbeGroup, expected=request.target_new, exact=probes.exact)
    yield told(RELIABILITY, False, probes.reliability, (request.prompt,))
    wide, local = probes.generalization, probes.locality
    if probes.rephrasings:
        yield told(GENERALIZATION, False, wide, probes.rephrasings)
    if probes.unchanged:
        yield ProbeGroup(LOCALITY, False, local, probes.unchanged)
    if probes.made:
        yield told(GENERALIZATION, True, wide, rephrasings(request))
        if unrelated:
            yield ProbeGroup(LOCALITY, True, local, unrelated)


def _prompts(groups: Iterable[ProbeGroup]) -> list[str]:
    return [*dict.fromkeys(prompt for group in groups for prompt in group.prompts)]


def _unsteady(first: Answers, second: Answers) -> frozenset[str]:
    """The prompts that were answered in two ways."""
    both = first.texts.keys() & second.texts.keys()
    return frozenset(p for p in both if not unchanged(first.texts[p], second.texts[p]))


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


def _marks(group: ProbeGroup, baseline: Baseline, after: Answers) -> Mapping[str, float]:
    """By prompt, 1 if it is answered as it should be, else 0; without those that do not count."""
    ignored = baseline.unsteady if group.expected is None else frozenset()
    prompts = [prompt for prompt in group.prompts if prompt not in ignored]
    return {prompt: _mark(group, prompt, baseline, after) for prompt in prompts}


def _score(group: ProbeGroup, marks: Mapping[str, float]) -> Score:
    value = mean([*marks.values()]) if marks else 1.0
    unsteady = len({*group.prompts}) - len(marks)
    return Score(group.measure, group.made, len(marks), value, group.threshold, unsteady)


def _mark(group: ProbeGroup, prompt: str, baseline: Baseline, after: Answers) -> float:
    """1 for a prompt that is answered as it should be, else 0."""
    answer = after.texts.get(prompt)
    if answer is None:
        return 0.0
    if group.expected is not None:
        if group.exact:
            return exact_match(answer, [group.expected])
        return begins_with(answer, group.expected)
    earlier = (baseline.before.texts.get(prompt), baseline.with_set.texts.get(prompt))
    return max((unchanged(text, answer) for text in earlier if text is not None), default=0.0)


def _reason(
    group: ProbeGroup,
    score: Score,
    marks: Mapping[str, float],
    before: Answers,
    after: Answers,
) -> str:
    prompt = next(prompt for prompt, mark in marks.items() if not mark)
    kind = "made probes" if group.made else "the edit's probes"
    if group.measure == RELIABILITY:
        kind = "the edit's own prompt"
    passed = f"{score.value:.2f} ({sum(marks.values()):.0f} of {score.asked})"
    return (
        f"The {group.measure} of {kind} is {passed}, and at least {score.threshold:.2f} is wanted: "
        f"{_example(group, prompt, before, after)}. Word the edit or its probes otherwise, use "
        f"another method, or ask for less {group.measure}."
    )


def _example(group: ProbeGroup, prompt: str, before: Answers, after: Answers) -> str:
    refused = after.refused.get(prompt) or before.refused.get(prompt)
    if refused:
        return f"{quoted(prompt)} could not be asked ({refused})"
    answer = quoted(after.texts[prompt])
    if group.expected is None:
        earlier = quoted(before.texts[prompt])
        return f"{quoted(prompt)} was answered {earlier}, and with it {answer}"
    return f"{quoted(prompt)} should be answered {quoted(group.expected)} and was {answer}"


def quoted(text: str) -> str:
    """A text on one line, in quotation marks and cut if it is long."""
    line = " ".join(text.split())
    return repr(line if len(line) <= _QUOTE_CHARS else line[:_QUOTE_CHARS] + "…")
