"""Scores a record by the answers of a model."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from vllm_edit.domain.scoring import mean, prefers
from vllm_edit.evaluation.more_questions import more_questions, more_scores
from vllm_edit.evaluation.probe_scores import grouped, probe_questions, right, same, scored
from vllm_edit.evaluation.question import Answers, Question
from vllm_edit.evaluation.record import OTHER_SUBJECTS, Probe, Record, RequestedRewrite
from weight_patchers.wording import begins_with

RELIABILITY = "reliability"
GENERALIZATION = "generalization"
LOCALITY_GROUP = "locality"
PORTABILITY_GROUP = "portability"
EFFICACY = "efficacy_success"
PARAPHRASE = "paraphrase_success"
NEIGHBOURHOOD = "neighbourhood_success"
LEAK = "leak"
"""The share of prompts about other subjects that are answered with the new target, and were not
before."""


@dataclass(frozen=True)
class Judgement:
    """A record's scores by metric, each from 0 to 1, and what was generated for its prompt."""

    case: str
    generated: str
    scores: Mapping[str, float]


def questions(record: Record, kinds: Sequence[str] = ()) -> Iterator[Question]:
    """All questions whose answers are needed to judge the record.

    `kinds` are further ones, of `more_questions`; its follow-up is asked after these.
    """
    for probe in _targets(record):
        yield from probe_questions(probe)
    for _, _, probe in record.probes():
        yield from probe_questions(probe)
    for prompt, likelier, other in _preferences(record):
        yield Question(prompt, likelier)
        yield Question(prompt, other)
    yield from more_questions(record, kinds)


def judge(
    record: Record,
    before: Answers,
    after: Answers,
    others: Sequence[RequestedRewrite] = (),
    kinds: Sequence[str] = (),
) -> Judgement:
    """Score the record by the answers of the unedited and the edited model.

    `others` are the facts of the other records in effect. Probes that they contradict are left
    out.
    """

    def answered(probe: Probe) -> dict[str, float]:
        return right(probe, after)

    def kept(probe: Probe) -> dict[str, float]:
        return same(probe, before, after)

    own = [Probe((r.prompt,), (r.target_new,)) for r in record.rewrites if r.judged]
    rephrased = [Probe((prompt,), (record.target_new,)) for prompt in record.rephrasings]
    scores = {**scored(RELIABILITY, own, answered), **scored(GENERALIZATION, rephrased, answered)}
    local = _uncontradicted(record.locality, record, others)
    scores |= grouped(LOCALITY_GROUP, local, kept)
    scores |= _leak(record, local.get(OTHER_SUBJECTS, ()), before, after)
    carried = _uncontradicted(record.portability, record, others)
    scores |= grouped(PORTABILITY_GROUP, carried, answered)
    scores |= _likelihoods(record, after)
    scores |= more_scores(record, kinds, after)
    generated = after[Question(record.prompt, record.target_new)].generated
    return Judgement(record.case, generated, scores)


def _targets(record: Record) -> Iterator[Probe]:
    for rewrite in record.rewrites:
        yield Probe((rewrite.prompt,), (rewrite.target_new,))
    for prompt in record.rephrasings:
        yield Probe((prompt,), (record.target_new,))


def _leak(
    record: Record, near: Sequence[Probe], before: Answers, after: Answers
) -> dict[str, float]:
    target = record.target_new
    leaks = []
    for question in (question for probe in near for question in probe_questions(probe)):
        told_before, told = (begins_with(a[question].generated, target) for a in (before, after))
        leaks.append(max(0.0, told - told_before))
    return {LEAK: mean(leaks)} if leaks else {}


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
