"""Draws the records of a run and adds probes that all data sets can have."""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from vllm_edit.domain.errors import InvalidData
from vllm_edit.evaluation.data.source import FACTWORLD, load
from vllm_edit.evaluation.record import DISTRACTING, OTHER_SUBJECTS, UNRELATED, Probe, Record
from weight_patchers.continuation import continue_with
from weight_patchers.wording import normalized

CONTROLS = 20

Choose = Callable[[Sequence[Record]], Iterable[Record]]


@dataclass(frozen=True)
class Sample:
    """Records to edit, and `control`: prompts about other subjects, none of which is edited.

    `left_out` counts records that cannot be edited: their prompt lacks the subject, or another
    record edits the same prompt.
    """

    source: str
    seed: int
    records: tuple[Record, ...]
    control: tuple[Probe, ...]
    left_out: int


def draw(
    source: str,
    count: int,
    seed: int,
    *,
    in_order: bool = False,
    choose: Choose | None = None,
) -> Sample:
    """`count` records of a source, determined by the seed; `in_order`, the first ones.

    A smaller count gives the first records of a larger one. `choose` takes the records in order
    and gives those wanted, as many as are asked for if there are enough.

    Raises:
        InvalidData: the source cannot be read, or has fewer records that can be edited.
    """
    loaded = load(source, count + 2 * CONTROLS, seed)
    usable = _distinct(loaded)
    if not in_order and not source.startswith(FACTWORLD):
        # The world's records are already shuffled.
        random.Random(f"{source} {seed}").shuffle(usable)  # noqa: S311 -- to be the same again
    records = usable[:count] if choose is None else list(choose(usable))[:count]
    if len(records) < count:
        wanted = "can be edited" if choose is None else "are as wanted"
        raise InvalidData(
            f"{source} has {len(records)} records that {wanted}; ask for no more than these."
        )
    cases = {record.case for record in records}
    control = _control(records, [record for record in usable if record.case not in cases])
    probed = [_probed(record, control, number) for number, record in enumerate(records)]
    with_others = [_with_other_answer(record, probed, at) for at, record in enumerate(probed)]
    return Sample(source, seed, tuple(with_others), control, len(loaded) - len(usable))


def _distinct(records: Sequence[Record]) -> list[Record]:
    seen: set[tuple[str, str]] = set()
    usable = []
    for record in records:
        facts = {(rewrite.subject, rewrite.prompt) for rewrite in record.rewrites}
        if facts & seen or any(subject not in prompt for subject, prompt in facts):
            continue
        seen |= facts
        usable.append(record)
    return usable


def _control(records: Sequence[Record], others: Sequence[Record]) -> tuple[Probe, ...]:
    edited = {rewrite.subject for record in records for rewrite in record.rewrites}
    free = [record for record in others if not any(name in record.prompt for name in edited)]
    return tuple(
        Probe((record.prompt,), (record.ground_truth or record.target_new,))
        for record in free[:CONTROLS]
    )


def _probed(record: Record, control: Sequence[Probe], number: int) -> Record:
    locality = dict(record.locality)
    sentence = f"{continue_with(record.prompt, record.target_new)}."
    near = [
        Probe(tuple(f"{sentence} {prompt}" for prompt in probe.prompts), probe.answers)
        for probe in locality.get(OTHER_SUBJECTS, ())
    ]
    if near and DISTRACTING not in locality:
        locality[DISTRACTING] = tuple(near)
    if control and UNRELATED not in locality:
        locality[UNRELATED] = (control[number % len(control)],)
    return replace(record, locality=locality)


def _with_other_answer(record: Record, records: Sequence[Record], at: int) -> Record:
    """The true answer before the edit, or else the target of the next record with another one."""
    others = [r.target_new for r in (*records[at + 1 :], *records[:at])]
    known = [record.ground_truth] if record.ground_truth else others
    wrong = [text for text in known if normalized(text) != normalized(record.target_new)]
    return replace(record, other_answer=wrong[0] if wrong else None)
