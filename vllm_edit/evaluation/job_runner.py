"""Runs the jobs of one method: applies their edits and judges them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict

from vllm_edit.domain.errors import InvalidEdit
from vllm_edit.domain.scoring import mean, ngram_entropy
from vllm_edit.evaluation.judging import Judgement, judge
from vllm_edit.evaluation.more_questions import CHAT
from vllm_edit.evaluation.plan import AFTER, END, SEQUENTIAL, EvaluationPlan, Job, JobResult
from vllm_edit.evaluation.record import Record, RequestedRewrite
from vllm_edit.evaluation.sample import Sample
from vllm_edit.evaluation.target import AppliedEdits, EditApplier, Model
from vllm_edit.evaluation.unedited import Unedited, ask, drift

FLUENCY_TEXTS = 10
"""Maximum number of texts sampled for one result."""


class Judge:
    """Judges records by a model's answers, compared with those of the unedited model."""

    def __init__(
        self, model: Model, sample: Sample, plan: EvaluationPlan, unedited: Unedited
    ) -> None:
        self._model = model
        self._plan = plan
        self._kinds = asked_kinds(model, plan)
        self._unedited = unedited
        self._control = [probe.prompts[0] for probe in sample.control]
        self.counts = frozenset(plan.counts)

    def judge(
        self, records: Sequence[Record], effective: Sequence[Record]
    ) -> tuple[Judgement, ...]:
        """The scores of `records` while all of `effective` are in effect."""
        after = ask(self._model, records, self._kinds)
        return tuple(
            judge(record, self._unedited.answers, after, _others(effective, record), self._kinds)
            for record in records
        )

    def unedited(self, records: Sequence[Record]) -> JobResult:
        """The scores of the unedited model; its locality is the noise floor."""
        before, again = self._unedited.answers, self._unedited.again
        judged = [judge(record, before, again, (), self._kinds) for record in records]
        return JobResult(
            method="unedited",
            regime="none",
            count=0,
            index=0,
            moment=END,
            seconds=(),
            failures=(),
            judged=_as_json(judged),
            drift=self._unedited.drift,
            fluency=self.fluency(records),
        )

    def drift(self) -> float | None:
        """Mean KL divergence of the next token on the control prompts; None without prompts."""
        return drift(self._model, self._control, self._unedited.top)

    def fluency(self, records: Sequence[Record]) -> float | None:
        """Mean n-gram entropy of text about some subjects; None if the plan has no fluency."""
        if not self._plan.fluency:
            return None
        prompts = [(r.generation or (r.prompt,))[0] for r in records[:FLUENCY_TEXTS]]
        texts = self._model.sample(prompts, self._plan.seed)
        return mean([ngram_entropy(text) for text in texts])


def asked_kinds(model: Model, plan: EvaluationPlan) -> tuple[str, ...]:
    """The further questions of the plan that the model can be asked."""
    return tuple(kind for kind in plan.ask if kind != CHAT or model.can_chat)


def preparation(applier: EditApplier, record: Record) -> float:
    """Seconds by which a model's first edit is slower than a second edit of the same fact."""
    seconds = []
    for _ in range(2):
        with applier.clean_state():
            seconds.append(applier.apply([record.rewrite]).seconds)
    return max(0.0, seconds[0] - seconds[1])


def run(
    job: Job, applier: EditApplier, record_judge: Judge, records: Sequence[Record]
) -> list[JobResult]:
    """Run a job on the unedited model and roll its edits back. Raises EditError."""
    chosen = job.of(records)
    with applier.clean_state():
        if job.regime == SEQUENTIAL:
            return list(_sequence(job, applier, record_judge, chosen))
        applied = _applied(applier, chosen)
        judged = record_judge.judge(chosen, chosen)
        return [_result(job, job.count, END, [applied], judged, record_judge, chosen)]


def _applied(applier: EditApplier, records: Sequence[Record]) -> AppliedEdits:
    """Apply the edits. The refusal of a single record becomes a failure in the result."""
    rewrites = _rewrites(records)
    try:
        return applier.apply(rewrites)
    except InvalidEdit as error:
        if len(records) > 1:
            raise
        return AppliedEdits(0.0, len(rewrites), (f"{records[0].prompt!r}: {error.message}",))


def _sequence(
    job: Job, applier: EditApplier, record_judge: Judge, chosen: Sequence[Record]
) -> Iterator[JobResult]:
    """Judge each edit right after it is applied, and all edits so far at each count."""
    applied: list[AppliedEdits] = []
    right_after: list[Judgement] = []
    for number, record in enumerate(chosen, start=1):
        applied.append(_applied(applier, [record]))
        effective = chosen[:number]
        right_after += record_judge.judge([record], effective)
        if number in record_judge.counts or number == len(chosen):
            yield _result(job, number, AFTER, applied, right_after, record_judge, ())
            judged = record_judge.judge(effective, effective)
            yield _result(job, number, END, applied, judged, record_judge, effective)


def _result(
    job: Job,
    count: int,
    moment: str,
    applied: Sequence[AppliedEdits],
    judged: Iterable[Judgement],
    record_judge: Judge,
    records: Sequence[Record],
) -> JobResult:
    """The result. Drift and fluency are measured only if there are `records`."""
    return JobResult(
        method=job.method,
        regime=job.regime,
        count=count,
        index=job.index,
        moment=moment,
        seconds=tuple(one.seconds / one.edits for one in applied),
        failures=tuple(failure for one in applied for failure in one.failures),
        judged=_as_json(judged),
        drift=record_judge.drift() if records else None,
        fluency=record_judge.fluency(records) if records else None,
    )


def _as_json(judged: Iterable[Judgement]) -> tuple[dict[str, object], ...]:
    return tuple(asdict(judgement) for judgement in judged)


def _rewrites(records: Iterable[Record]) -> list[RequestedRewrite]:
    return [rewrite for record in records for rewrite in record.rewrites]


def _others(effective: Iterable[Record], record: Record) -> list[RequestedRewrite]:
    return _rewrites(other for other in effective if other is not record)
