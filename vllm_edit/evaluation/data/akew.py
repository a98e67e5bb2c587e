"""AKEW: the facts of three sets, each as a triple and as a paragraph (Wu et al. 2024).

CounterFact and WikiUpdate have one rewrite in a record, MQuAKE-CF a list: its first counts.
"""

from vllm_edit.evaluation.data.fields import Fields
from vllm_edit.evaluation.record import OTHER_SUBJECTS, PARTS, UNRELATED, Probe, Record


def akew_paragraph(fields: Fields, number: int) -> Record:
    """The paragraph is injected; its statements are asked one by one."""
    rewrite = _rewrite(fields)
    parts = tuple(
        Probe((item.filled("prompt", item.text("subject")),), item.texts("target"))
        for item in rewrite.each("unsfact_triplets_GPT")
    )
    return _record(fields, rewrite, number, rewrite.text("fact_new_uns"), {PARTS: parts})


def akew_triple(fields: Fields, number: int) -> Record:
    """The object of the triple is injected."""
    rewrite = _rewrite(fields)
    return _record(fields, rewrite, number, _object(rewrite, "target_new", "answer_new"), {})


def _rewrite(fields: Fields) -> Fields:
    return fields.each("requested_rewrite")[0]


def _record(
    fields: Fields,
    rewrite: Fields,
    number: int,
    target: str,
    portability: dict[str, tuple[Probe, ...]],
) -> Record:
    subject = rewrite.text("subject")
    whole = rewrite.has("prompt_full")
    prompt = rewrite.text("prompt_full") if whole else f"{rewrite.filled('prompt', subject)}?"
    truth = None
    if rewrite.has("target_true") or rewrite.has("answer_true"):
        truth = _object(rewrite, "target_true", "answer_true")
    near = fields.optional("neighborhood_prompts") if truth else ()
    locality: dict[str, tuple[Probe, ...]] = {}
    if near:
        locality[OTHER_SUBJECTS] = tuple(Probe((text,), (truth or "",)) for text in near)
    if fields.has("loc"):
        locality[UNRELATED] = (Probe((fields.text("loc"),), fields.texts("loc_ans")),)
    return Record(
        case=fields.case(number),
        prompt=prompt,
        subject=subject,
        target_new=target,
        ground_truth=truth,
        rephrasings=fields.optional("paraphrase_prompts") or rewrite.optional("question"),
        locality=locality,
        portability=portability,
    )


def _object(rewrite: Fields, labelled: str, plain: str) -> str:
    """CounterFact and MQuAKE-CF have an object with `str`, WikiUpdate a text."""
    return rewrite.labelled(labelled, "str") if rewrite.has(labelled) else rewrite.texts(plain)[0]
