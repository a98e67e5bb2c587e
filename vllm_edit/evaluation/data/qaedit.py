"""QAEdit: questions of NQ, TriviaQA and SimpleQA (Yang et al. 2025, arXiv 2502.11177)."""

from vllm_edit.evaluation.data.fields import Fields
from vllm_edit.evaluation.record import UNRELATED, Probe, Record


def qaedit(fields: Fields, number: int) -> Record:
    """The right answer is injected; which was wrong before, `--only-wrong` finds out."""
    return Record(
        case=fields.case(number),
        prompt=fields.text("prompt"),
        subject=fields.text("subject"),
        target_new=fields.text("target"),
        rephrasings=fields.optional("rephrase"),
        locality={
            UNRELATED: tuple(
                Probe((item.text("loc"),), item.texts("loc_ans"))
                for item in fields.each("locality")
            )
        },
    )
