"""One method's jobs on a site."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict

from vllm_edit.domain.errors import InvalidEdit
from vllm_edit.domain.scoring import kl_divergence, mean, ngram_entropy
from vllm_edit.evaluation.judging import Judgement, judge, questions
from vllm_edit.evaluation.plan import AFTER, END, SEQUENTIAL, EvaluationPlan, Job, JobResult
from vllm_edit.evaluation.question import Answers
from vllm_edit.evaluation.record import Record, RequestedRewrite
from vllm_edit.evaluation.sample import Sample
from vllm_edit.evaluation.target import AppliedEdits, EditApplier, Model

FLUENCY_TEXTS = 10
"""At most so many are sampled for one piece."""


class Judge:
    """Judges records by what a model answers, against what it answered unedited.

    It is made on the unedited model.
    """

    def __init__(self, model: Model, sample: Sample, plan: EvaluationPlan) -> None:
        self._model = model
        self._plan = plan
        self.counts = frozenset(plan.counts)
        self._control = [probe.prompts[0] for probe in sample.control]
        self.before: Answers = model.ask(q for record in sample.records for q in questions(record))
        self._before_top = model.top(self._control)

    def judge(
        self, records: Sequence[Record], effective: Sequence[Record]
    ) -> tuple[Judgement, ...]:
        """The scores of records while all of `effective` are in effect."""
        after = self._model.ask(q for record in records for q in questions(record))
        return tuple(
            judge(record, self.before, after, _others(effective, record)) for record in records
        )

    def drift(self) -> float | None:
        """Mean KL divergence of the next token on the control prompts; None without any."""
        now = self._model.again(self._control, self._before_top)
        found = [kl_divergence(*pair) for pair in zip(self._before_top, now, strict=True)]
        return mean(found) if found else None

    def fluency(self, records: Sequence[Record]) -> float | None:
        """Mean n-gram entropy of text about some of the records' subjects, if it is wanted."""
        if not self._plan.fluency:
            return None
        prompts = [(r.generation or (r.prompt,))[0] for r in records[:FLUENCY_TEXTS]]
        texts = self._model.write(prompts, self._plan.seed)
        return mean([ngram_entropy(text) for text in texts])


def unedited(examiner: Judge, records: Sequence[Record]) -> JobResult:
    """The model as it is, as a row to compare with."""
    judged = [judge(record, examiner.before, examiner.before) for record in records]
    return JobResult(
        method="unedited",
        regime="none",
        count=0,
        index=0,
        moment=END,
        seconds=(),
        failures=(),
        judged=_told(judged),
        drift=0.0,
        fluency=examiner.fluency(records),
    )


def preparation(editing: EditApplier, record: Record) -> float:
    """Seconds that a method's first edit on a site takes over its second of the same fact."""
    taken = []
    for _ in range(2):
        with editing.clean_state():
            taken.append(editing.apply([record.rewrite]).seconds)
    return max(0.0, taken[0] - taken[1])


def run(
    job: Job, editing: EditApplier, examiner: Judge, records: Sequence[Record]
) -> list[JobResult]:
    """Do a job on a clean model, and leave it clean; raises EditError."""
    chosen = job.of(records)
    with editing.clean_state():
        if job.regime == SEQUENTIAL:
            return list(_sequence(job, editing, examiner, chosen))
        applied = _applied(editing, chosen)
        judged = examiner.judge(chosen, chosen)
        return [_piece(job, job.count, END, [applied], judged, examiner, chosen)]


def _applied(editing: EditApplier, records: Sequence[Record]) -> AppliedEdits:
    """Edits of several records are refused together; of one that is refused, the piece tells."""
    rewrites = _rewrites(records)
    try:
        return editing.apply(rewrites)
    except InvalidEdit as error:
        if len(records) > 1:
            raise
        return AppliedEdits(0.0, len(rewrites), (f"{records[0].prompt!r}: {error.message}",))


def _sequence(
    job: Job, editing: EditApplier, examiner: Judge, chosen: Sequence[Record]
) -> Iterator[JobResult]:
    """Edit by edit: each judged at once, and all so far wherever the plan has a count."""
    applied: list[AppliedEdits] = []
    at_once: list[Judgement] = []
    for number, record in enumerate(chosen, start=1):
        applied.append(_applied(editing, [record]))
        effective = chosen[:number]
        at_once += examiner.judge([record], effective)
        if number in examiner.counts or number == len(chosen):
            yield _piece(job, number, AFTER, applied, at_once, examiner, ())
            judged = examiner.judge(effective, effective)
            yield _piece(job, number, END, applied, judged, examiner, effective)


def _piece(
    job: Job,
    count: int,
    moment: str,
    applied: Sequence[AppliedEdits],
    judged: Iterable[Judgement],
    examiner: Judge,
    records: Sequence[Record],
) -> JobResult:
    """With drift and fluency where there are records to measure them with."""
    return JobResult(
        method=job.method,
        regime=job.regime,
        count=count,
        index=job.index,
        moment=moment,
        seconds=tuple(found.seconds / found.edits for found in applied),
        failures=tuple(failure for found in applied for failure in found.failures),
        judged=_told(judged),
        drift=examiner.drift() if records else None,
        fluency=examiner.fluency(records) if records else None,
    )


def _told(judged: Iterable[Judgement]) -> tuple[dict[str, object], ...]:
    return tuple(asdict(judgement) for judgement in judged)


def _rewrites(records: Iterable[Record]) -> list[RequestedRewrite]:
    return [rewrite for record in records for rewrite in record.rewrites]


def _others(effective: Iterable[Record], record: Record) -> list[RequestedRewrite]:
    return _rewrites(other for other in effective if other is not record)
