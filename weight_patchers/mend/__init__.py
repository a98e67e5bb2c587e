"""MEND: a network edits the gradient (Mitchell et al. 2022, arXiv 2110.11309)."""

from weight_patchers.mend.editor import MendEditor
from weight_patchers.mend.hparams import MendHparams

__all__ = ["MendEditor", "MendHparams"]
