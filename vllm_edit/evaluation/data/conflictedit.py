"""ConflictEdit's pairs of edits that contradict each other (Li et al. 2024)."""

from dataclasses import replace

from vllm_edit.evaluation.data.fields import Fields
from vllm_edit.evaluation.record import REVERSED, Probe, Record, RequestedRewrite


def conflictedit(fields: Fields, number: int) -> Record:
    """A reverse conflict: the second edit contradicts the first.

    The second edit is the record's own fact. The first edit's relation, asked for the second's new
    object, must agree with it. ConflictEdit's conflict score and magnitude are not computed.
    """
    if (kind := fields.text("type")) != "reverse":
        raise fields.wrong("type", f"is {kind!r}; only reverse conflicts are read")
    edits = fields.each("edits")
    if len(edits) != 2:
        raise fields.wrong("edits", "is no pair")
    first, second = (_rewrite(edit) for edit in edits)
    template = edits[0].inner("relation").filled("prompt", second.target_new)
    return Record(
        case=fields.case(number),
        prompt=second.prompt,
        subject=second.subject,
        target_new=second.target_new,
        ground_truth=second.ground_truth,
        rephrasings=(edits[1].inner("relation").filled("query", second.subject),),
        portability={REVERSED: (Probe((template,), (second.subject,)),)},
        before=(replace(first, judged=False),),
    )


def _rewrite(edit: Fields) -> RequestedRewrite:
    subject = edit.labelled("subject", "label")
    return RequestedRewrite(
        prompt=edit.inner("relation").filled("prompt", subject),
        subject=subject,
        target_new=edit.labelled("new_object", "label"),
        ground_truth=edit.labelled("object", "label"),
    )
