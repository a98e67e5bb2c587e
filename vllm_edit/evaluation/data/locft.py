"""The three sets of LocFT (Yang et al. 2026): 3,000 of zsRE, CounterFact and WikiBigEdit each.

Each is in the schema of its source: the fields of a record tell which.
"""

from vllm_edit.evaluation.data.easyedit import easyedit
from vllm_edit.evaluation.data.fields import Fields
from vllm_edit.evaluation.data.wikibigedit import wikibigedit
from vllm_edit.evaluation.data.zsre import zsre_alternative
from vllm_edit.evaluation.record import Record


def locft(fields: Fields, number: int) -> Record | None:
    """LocFT injects `target_new` or, where there is none, `alt`."""
    if fields.has("target_new"):
        return easyedit(fields, number)
    # zsRE gives the true answers, a list of Wikidata's changes does not.
    return (
        zsre_alternative(fields, number) if fields.has("answers") else wikibigedit(fields, number)
    )
