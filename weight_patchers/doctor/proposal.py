"""Layers to edit, proposed from a causal trace.

Where a fact passes is not always where it is best edited (Hase et al. 2023, arXiv 2301.04213):
settings that were measured go before these.
"""

from dataclasses import dataclass

from weight_patchers.doctor.tracing import Trace

# As many layers as MEMIT writes in GPT-2 XL and in Llama models.
_MOST_LAYERS = 5
# An effect counts from this share of what it is a part of: of the answer's probability for the
# noise, of what the noise takes away for an MLP, where the peak of GPT-2 XL is a third.
_LEAST_SHARE = 0.1


@dataclass(frozen=True)
class Proposal:
    """Layers to edit: `one` for methods that write one layer, `several` for those that spread."""

    one: int
    several: tuple[int, ...]


def propose(trace: Trace) -> Proposal | None:
    """The layers that a trace speaks for, or None where it speaks for none.

    Critical layers are those, without a gap around the highest, whose MLPs give back at the
    subject's last token at least a tenth of what the noise takes away. One layer: the centre of
    these, each weighed by its effect (ROME is put at the centre of the MLPs' effect, section
    3.1). Several: at most five of them around that one (MEMIT, arXiv 2210.07229, edits a range of
    critical MLPs: 3 to 8 in GPT-J, whose layer for ROME is 5).
    None when no fact was traced, the noise takes away less than a tenth of the answer's
    probability, or no layer is critical.
    """
    effects = trace.mlp_at_subject
    least = _LEAST_SHARE * trace.total_effect
    if not effects or trace.total_effect < _LEAST_SHARE * trace.clean or max(effects) < least:
        return None
    first = last = effects.index(max(effects))
    while first > 0 and effects[first - 1] >= least:
        first -= 1
    while last + 1 < len(effects) and effects[last + 1] >= least:
        last += 1
    critical = range(first, last + 1)
    weight = sum(effects[layer] for layer in critical)
    centre = round(sum(layer * effects[layer] for layer in critical) / weight)
    start = max(first, min(centre - _MOST_LAYERS // 2, last + 1 - _MOST_LAYERS))
    return Proposal(centre, tuple(critical)[start - first :][:_MOST_LAYERS])
