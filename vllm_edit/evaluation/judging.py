"""Scores a record by the answers of a model."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from vllm_edit.domain.scoring import exact_match, mean, prefers, token_match, unchanged
from vllm_edit.evaluation.question import Answer, Answers, Question
from vllm_edit.evaluation.record import Probe, Record, RequestedRewrite

RELIABILITY = "reliability"
GENERALIZATION = "generalization"
LOCALITY_GROUP = "locality"
PORTABILITY_GROUP = "portability"
EFFICACY = "efficacy_success"
PARAPHRASE = "paraphrase_success"
NEIGHBOURHOOD = "neighbourhood_success"
GENERATED = "generated"
FORCED = "teacher_forced"

ProbeScorer = Callable[[Probe], tuple[float, float | None]]
"""Scores a probe: generated, and teacher-forced if available."""


@dataclass(frozen=True)
class Judgement:
    """A record's scores by metric, each from 0 to 1, and what was generated for its prompt."""

    case: str
    generated: str
    scores: Mapping[str, float]


def questions(record: Record) -> Iterator[Question]:
    """All questions whose answers are needed to judge the record."""
    for probe in _targets(record):
        yield from _probe_questions(probe)
    for _, _, probe in record.probes():
        yield from _probe_questions(probe)
    for prompt, likelier, other in _preferences(record):
        yield Question(prompt, likelier)
        yield Question(prompt, other)


def judge(
    record: Record, before: Answers, after: Answers, others: Sequence[RequestedRewrite] = ()
) -> Judgement:
    """Score the record by the answers of the unedited and the edited model.

    `others` are the facts of the other records in effect. Probes that they contradict are left
    out.
    """

    def right(probe: Probe) -> tuple[float, float | None]:
        return _right(probe, after)

    def same(probe: Probe) -> tuple[float, float | None]:
        return _same(probe, before, after)

    own = [Probe((r.prompt,), (r.target_new,)) for r in record.rewrites if r.judged]
    rephrased = [Probe((prompt,), (record.target_new,)) for prompt in record.rephrasings]
    scores = {**_scored(RELIABILITY, own, right), **_scored(GENERALIZATION, rephrased, right)}
    kept = _uncontradicted(record.locality, record, others)
    scores |= _grouped(LOCALITY_GROUP, kept, same)
    carried = _uncontradicted(record.portability, record, others)
    scores |= _grouped(PORTABILITY_GROUP, carried, right)
    scores |= _likelihoods(record, after)
    generated = after[Question(record.prompt, record.target_new)].generated
    return Judgement(record.case, generated, scores)


def _targets(record: Record) -> Iterator[Probe]:
    for rewrite in record.rewrites:
        yield Probe((rewrite.prompt,), (rewrite.target_new,))
    for prompt in record.rephrasings:
        yield Probe((prompt,), (record.target_new,))


def _probe_questions(probe: Probe) -> Iterator[Question]:
    for prompt in probe.prompts:
        yield Question(prompt, probe.answers[0], probe.hops)


def _right(probe: Probe, after: Answers) -> tuple[float, float | None]:
    """1 if any wording gets a right answer, else 0; teacher-forced, the best wording's score."""
    answers = [after[question] for question in _probe_questions(probe)]
    forced = [token_match(a.forced.greedy, a.forced.target) for a in answers if a.forced]
    generated = max(exact_match(answer.generated, probe.answers) for answer in answers)
    return generated, max(forced) if len(forced) == len(answers) else None


def _same(probe: Probe, before: Answers, after: Answers) -> tuple[float, float | None]:
    """The share of answers that did not change, over all wordings."""
    pairs = [(before[question], after[question]) for question in _probe_questions(probe)]
    generated = [unchanged(old.generated, new.generated) for old, new in pairs]
    forced = [match for old, new in pairs if (match := _agreement(old, new)) is not None]
    return mean(generated), mean(forced) if len(forced) == len(pairs) else None


def _agreement(old: Answer, new: Answer) -> float | None:
    if old.forced is None or new.forced is None:
        return None
    return token_match(new.forced.greedy, old.forced.greedy)


def _scored(name: str, probes: Sequence[Probe], score: ProbeScorer) -> dict[str, float]:
    if not probes:
        return {}
    scored = [score(probe) for probe in probes]
    scores = {f"{name}/{GENERATED}": mean([generated for generated, _ in scored])}
    forced = [value for _, value in scored if value is not None]
    if len(forced) == len(scored):
        scores[f"{name}/{FORCED}"] = mean(forced)
    return scores


def _grouped(
    group: str, probes: Mapping[str, Sequence[Probe]], score: ProbeScorer
) -> dict[str, float]:
    """Each kind's score, and the group's: the mean of its kinds."""
    scores: dict[str, float] = {}
    for kind, probes_of_kind in probes.items():
        scores |= _scored(f"{group}.{kind}", probes_of_kind, score)
    for way in (GENERATED, FORCED):
        kinds = [value for name, value in scores.items() if name.endswith(f"/{way}")]
        if kinds and len(kinds) == len(probes):
            scores[f"{group}/{way}"] = mean(kinds)
    return scores


def _preferences(record: Record) -> Iterator[tuple[str, str, str]]:
    """CounterFact's comparisons: (prompt, the object that should be likelier, the other)."""
    if not record.neighbourhood or record.ground_truth is None:
        return
    for prompt in (record.prompt, *record.rephrasings):
        yield prompt, record.target_new, record.ground_truth
    for prompt in record.neighbourhood:
        yield prompt, record.ground_truth, record.target_new


def _likelihoods(record: Record, after: Answers) -> dict[str, float]:
    successes: dict[str, list[float]] = {}
    for prompt, likelier, other in _preferences(record):
        likely, unlikely = (after[Question(prompt, t)].forced for t in (likelier, other))
        if likely is None or unlikely is None:
            return {}
        name = EFFICACY if prompt == record.prompt else PARAPHRASE
        name = NEIGHBOURHOOD if likelier == record.ground_truth else name
        successes.setdefault(name, []).append(prefers(likely.nll, unlikely.nll))
    return {name: mean(values) for name, values in successes.items()}


def _uncontradicted(
    groups: Mapping[str, Sequence[Probe]], record: Record, others: Iterable[RequestedRewrite]
) -> dict[str, list[Probe]]:
    rewrites = list(others)
    kept = {
        kind: [p for p in probes if not any(_contradicts(o, p, record) for o in rewrites)]
        for kind, probes in groups.items()
    }
    return {kind: probes for kind, probes in kept.items() if probes}


def _contradicts(other: RequestedRewrite, probe: Probe, record: Record) -> bool:
    """Whether the other edit changes an answer of the probe and the probe names its subject."""
    named = [*probe.prompts, record.target_new]
    return other.ground_truth in probe.answers and any(other.subject in text for text in named)
