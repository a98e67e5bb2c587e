"""zsRE in MEND's schema (Levy et al. 2017, Mitchell et al. 2022)."""

from vllm_edit.evaluation.data.fields import Fields
from vllm_edit.evaluation.record import ONE_HOP, OTHER_SUBJECTS, UNRELATED, Probe, Record

NATURAL_QUESTIONS = "nq question:"


def zsre_alternative(fields: Fields, number: int) -> Record | None:
    """The edit to the false answer `alt`, as in MEND and EasyEdit. None if `alt` is empty."""
    if fields.get("alt") == "":
        return None
    return _record(fields, number, fields.text("alt"), fields.texts("answers")[0])


def zsre_true(fields: Fields, number: int) -> Record:
    """The edit to the true answer `answers[0]`, as in ROME and MEMIT."""
    return _record(fields, number, fields.texts("answers")[0], None)


def _record(fields: Fields, number: int, target: str, truth: str | None) -> Record:
    prompt = fields.text("loc")
    kind = UNRELATED if prompt.startswith(NATURAL_QUESTIONS) else OTHER_SUBJECTS
    if kind == UNRELATED:
        prompt = prompt if prompt.endswith("?") else f"{prompt}?"
    return Record(
        case=fields.case(number),
        prompt=fields.text("src"),
        subject=fields.text("subject"),
        target_new=target,
        ground_truth=truth,
        rephrasings=fields.optional("rephrase"),
        locality={kind: (Probe((prompt,), fields.texts("loc_ans")),)},
        portability=_portability(fields) if truth is not None else {},
    )


def _portability(fields: Fields) -> dict[str, tuple[Probe, ...]]:
    """EasyEdit's one-hop question, which assumes the answer `alt`."""
    if not fields.has("portability"):
        return {}
    inner = fields.inner("portability")
    probe = Probe((inner.text("New Question"),), inner.texts("New Answer"), hops=True)
    return {ONE_HOP: (probe,)}
