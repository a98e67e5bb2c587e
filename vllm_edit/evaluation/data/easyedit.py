"""EasyEdit's schemas: flat CounterFact, and KnowEdit with its groups of probes."""

from dataclasses import replace

from vllm_edit.evaluation.data.fields import Fields
from vllm_edit.evaluation.record import (
    ALIAS,
    DISTRACTING,
    FORGETFULNESS,
    ONE_HOP,
    OTHER_RELATIONS,
    OTHER_SUBJECTS,
    REVERSED,
    UNRELATED,
    Probe,
    Record,
)

LOCALITY_NAMES = {
    "Relation_Specificity": OTHER_RELATIONS,
    "Neighborhood": OTHER_SUBJECTS,
    "neighborhood": OTHER_SUBJECTS,
    "distracting": DISTRACTING,
    "Forgetfulness": FORGETFULNESS,
    "Unrelated": UNRELATED,
}
PORTABILITY_NAMES = {
    "Subject_Aliasing": ALIAS,
    "Logical_Generalization": REVERSED,
    "Reasoning": ONE_HOP,
    "one_hop": ONE_HOP,
}


def easyedit(fields: Fields, number: int) -> Record:
    """EasyEdit's flat CounterFact with one neighbour, and the export of `vllm-edit world`."""
    locality = fields.probes("locality", LOCALITY_NAMES)
    if locality or not fields.has("locality_prompt"):
        return _record(fields, number, locality)
    prompt, answers = fields.text("locality_prompt"), fields.texts("locality_ground_truth")
    record = _record(fields, number, {OTHER_SUBJECTS: (Probe((prompt,), answers),)})
    is_near = record.ground_truth in answers
    return replace(record, neighbourhood=(prompt,) if is_near else ())


def knowedit(fields: Fields, number: int) -> Record:
    """KnowEdit's files of facts; probes and rephrasings may be missing."""
    if fields.has("labels") and not fields.has("target_new"):
        raise fields.wrong(
            "labels", "is of a text, as WikiBio's are: only KnowEdit's files of facts are read"
        )
    return _record(fields, number, fields.probes("locality", LOCALITY_NAMES))


def _record(fields: Fields, number: int, locality: dict[str, tuple[Probe, ...]]) -> Record:
    truth = fields.optional("ground_truth")
    rephrasings = fields.optional("rephrase_prompts") or fields.optional("rephrase_prompt")
    return Record(
        case=fields.case(number),
        prompt=fields.text("prompt"),
        subject=fields.text("subject"),
        target_new=fields.texts("target_new")[0],
        ground_truth=truth[0] if truth else None,
        rephrasings=rephrasings,
        locality=locality,
        portability=fields.probes("portability", PORTABILITY_NAMES),
    )
