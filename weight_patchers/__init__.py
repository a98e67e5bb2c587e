"""Weight editors: change what a language model knows, as a small delta of its weights.

Computing a delta is apart from applying it: nothing here keeps a change in the model it was
given. Needs PyTorch, Transformers, safetensors and PyYAML only.
"""

from weight_patchers.applied import applied
from weight_patchers.delta import Change, Delta, Dense, LowRank, Neurons, ParameterChange
from weight_patchers.edit import Edit
from weight_patchers.errors import PatcherError
from weight_patchers.fingerprint import fingerprint
from weight_patchers.methods import METHODS, Patcher
from weight_patchers.statistics import Statistics
from weight_patchers.values.contexts import Context

__all__ = [
    "METHODS",
    "Change",
    "Context",
    "Delta",
    "Dense",
    "Edit",
    "LowRank",
    "Neurons",
    "ParameterChange",
    "Patcher",
    "PatcherError",
    "Statistics",
    "applied",
    "fingerprint",
]
