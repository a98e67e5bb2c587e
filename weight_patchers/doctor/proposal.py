"""Layers to edit, proposed from a causal trace.

The layers that carry a fact are not always the best to edit (Hase et al. 2023, arXiv 2301.04213),
so prefer settings that were measured.
"""

from dataclasses import dataclass

from weight_patchers.doctor.tracing import Trace

# As many layers as MEMIT writes in GPT-2 XL and in Llama models.
_MOST_LAYERS = 5
# Least share that counts: of the answer's probability for the effect of noise, and of the effect
# of noise for an MLP, where the peak of GPT-2 XL is a third.
_LEAST_SHARE = 0.1


@dataclass(frozen=True)
class Proposal:
    """Layers to edit: `one` for methods that write one layer, `several` for those that spread."""

    one: int
    several: tuple[int, ...]


def propose(trace: Trace) -> Proposal | None:
    """The layers that a trace suggests, or None.

    Critical layers are the unbroken run around the highest effect whose MLPs restore, at the
    subject's last token, at least a tenth of what the noise takes away. One layer: their centre,
    weighted by effect (ROME is put at the centre of the MLPs' effect, section
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
