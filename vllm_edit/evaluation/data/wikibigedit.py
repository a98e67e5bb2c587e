"""WikiBigEdit: changes of Wikidata as questions (Thede et al. 2025)."""

from vllm_edit.evaluation.data.fields import Fields
from vllm_edit.evaluation.record import MULTI_HOP, PERSONA, UNRELATED, Probe, Record

PERSONAS = "genv2_"
"""The fields with the question in the words of a character begin with this."""


def wikibigedit(fields: Fields, number: int) -> Record:
    """Many records have no question of several hops."""
    target = fields.text("alt")
    portability: dict[str, tuple[Probe, ...]] = {}
    if fields.has("mhop") and fields.has("mhop_ans"):
        probe = Probe((fields.text("mhop"),), fields.texts("mhop_ans"), hops=True)
        portability[MULTI_HOP] = (probe,)
    personas = [name for name in fields.content if name.startswith(PERSONAS) and fields.has(name)]
    if personas:
        portability[PERSONA] = tuple(Probe((fields.text(name),), (target,)) for name in personas)
    return Record(
        case=fields.case(number),
        prompt=fields.text("src"),
        subject=fields.text("subject"),
        target_new=target,
        rephrasings=fields.optional("rephrase"),
        locality={UNRELATED: (Probe((fields.text("loc"),), fields.texts("loc_ans")),)},
        portability=portability,
    )
