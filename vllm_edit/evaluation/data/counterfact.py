"""CounterFact as ROME published it (Meng et al. 2022)."""

from vllm_edit.evaluation.data.fields import Fields
from vllm_edit.evaluation.record import OTHER_SUBJECTS, Probe, Record


def counterfact(fields: Fields, number: int) -> Record:
    """Neighbourhood prompts are about other subjects with the same true object."""
    rewrite = fields.inner("requested_rewrite").rewrite()
    truth = rewrite.ground_truth or ""
    near = fields.texts("neighborhood_prompts")
    return Record(
        case=fields.case(number),
        prompt=rewrite.prompt,
        subject=rewrite.subject,
        target_new=rewrite.target_new,
        ground_truth=truth,
        rephrasings=fields.texts("paraphrase_prompts"),
        locality={OTHER_SUBJECTS: tuple(Probe((prompt,), (truth,)) for prompt in near)},
        neighbourhood=near,
        generation=fields.optional("generation_prompts"),
    )
