"""MQuAKE-CF: questions over several facts, some of them edited (Zhong et al. 2023)."""

from vllm_edit.evaluation.data.fields import Fields
from vllm_edit.evaluation.record import MULTI_HOP, Probe, Record


def mquake(fields: Fields, number: int) -> Record:
    """The case's edits are written in order. The last one is the record's own fact."""
    *before, last = [item.rewrite() for item in fields.each("requested_rewrite")]
    answers = (fields.text("new_answer"), *fields.optional("new_answer_alias"))
    questions = fields.texts("questions")
    rephrasings = [
        hop.text("question")
        for hop in fields.each("new_single_hops")
        if hop.text("answer") == last.target_new and last.subject in hop.text("question")
    ]
    return Record(
        case=fields.case(number),
        prompt=last.prompt,
        subject=last.subject,
        target_new=last.target_new,
        ground_truth=last.ground_truth,
        rephrasings=tuple(rephrasings),
        portability={MULTI_HOP: (Probe(questions, answers, hops=True),)},
        before=tuple(before),
    )
