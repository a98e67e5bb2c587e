"""KnowledgeEditor: a network masks the gradient (De Cao et al. 2021, arXiv 2104.08164)."""

from weight_patchers.ke.editor import KeEditor
from weight_patchers.ke.hparams import KeHparams

__all__ = ["KeEditor", "KeHparams"]
