"""Training edits for trained editors, from records of data sets and from common facts."""

import hashlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vllm_edit.domain.errors import InvalidTrainingData
from vllm_edit.evaluation.record import Record
from weight_patchers.common_fact import CommonFact
from weight_patchers.edit import Edit
from weight_patchers.trained.training.examples import TrainingEdit
from weight_patchers.trained.training.trainer import TrainingData

_VALIDATION = 0.1
_NEAR, _FAR = 3, 1


@dataclass(frozen=True)
class AnyOf:
    """Draws one of some edits."""

    edits: Sequence[TrainingEdit]

    def __call__(self, rng: random.Random) -> TrainingEdit:
        return rng.choice(self.edits)


@dataclass(frozen=True)
class FactDraw:
    """Draws an edit of one of some facts: to the answer of another fact of its relation.

    Other facts are kept: of the relation, and any.
    """

    facts: Sequence[CommonFact]

    def __call__(self, rng: random.Random) -> TrainingEdit:
        fact = rng.choice(self.facts)
        near = [f for f in self.facts if f.relation == fact.relation and f.subject != fact.subject]
        answers = sorted({f.answer for f in near} - {fact.answer})
        prompt, *others = fact.prompts
        kept = [*rng.sample(near, min(_NEAR, len(near))), *rng.sample(self.facts, _FAR)]
        return TrainingEdit(
            Edit(prompt, fact.subject, rng.choice(answers)),
            tuple(others),
            tuple((rng.choice(f.prompts), f.answer) for f in kept if f.subject != fact.subject),
        )


def from_records(records: Iterable[Record], validation: int) -> TrainingData:
    """The records that bring rephrasings and other questions; a tenth of the subjects validates.

    Raises InvalidTrainingData when there are too few.
    """
    edits = [edit for record in records if (edit := _edit(record)) is not None]
    held = [edit for edit in edits if _is_held_out(edit.edit.subject)]
    used = [edit for edit in edits if not _is_held_out(edit.edit.subject)]
    if not (used and held):
        raise InvalidTrainingData(
            f"Only {len(edits)} of the records have rephrasings and questions about something "
            "else: name a larger file."
        )
    return TrainingData(AnyOf(used), held[:validation])


def from_facts(facts: Iterable[CommonFact], seed: int, validation: int) -> TrainingData:
    """Counterfactuals about the facts; those about a tenth of the subjects validate.

    Raises InvalidTrainingData when there are too few.
    """
    sides: tuple[list[CommonFact], list[CommonFact]] = ([], [])
    for fact in facts:
        if len(fact.wordings) > 1:
            sides[_is_held_out(fact.subject)].append(fact)
    train, held = (FactDraw(_with_others(side)) for side in sides)
    if not (train.facts and held.facts):
        raise InvalidTrainingData("There are too few facts with several wordings to train on.")
    rng = random.Random(f"validation {seed}")  # noqa: S311 - seeded, not cryptography
    return TrainingData(train, [held(rng) for _ in range(validation)])


def _with_others(facts: Sequence[CommonFact]) -> list[CommonFact]:
    """The facts of relations with at least two answers."""
    answers: dict[str, set[str]] = {}
    for fact in facts:
        answers.setdefault(fact.relation, set()).add(fact.answer)
    return [fact for fact in facts if len(answers[fact.relation]) > 1]


def _edit(record: Record) -> TrainingEdit | None:
    """The record for training; None without a rephrasing, or anything to keep."""
    kept = tuple(
        (prompt, probe.answers[0])
        for probes in record.locality.values()
        for probe in probes
        for prompt in probe.prompts
    )
    if not (record.rephrasings and kept) or record.subject not in record.prompt:
        return None
    edit = Edit(record.prompt, record.subject, record.target_new)
    return TrainingEdit(edit, record.rephrasings, kept)


def _is_held_out(subject: str) -> bool:
    digest = hashlib.sha256(subject.casefold().encode()).digest()
    return int.from_bytes(digest[:4]) < _VALIDATION * 2**32
