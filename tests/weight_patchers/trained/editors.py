"""Editors as they are before training, for models that have no trained one."""

from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from weight_patchers import Edit, Patcher
from weight_patchers.model import hooks
from weight_patchers.model.layers import projection
from weight_patchers.trained.editor import TrainedEditor
from weight_patchers.trained.gradients import read_gradients
from weight_patchers.values.contexts import Context
from weight_patchers.values.problem import build_problem

SEEN = (
    Edit("The capital of Peru is", "Peru", "Oslo"),
    Edit("Novatech is based in", "Novatech", "Paris"),
    Edit("Anna Berg works for", "Anna Berg", "Lima"),
)
"""Edits whose gradients an untrained editor has observed."""


def untrained(
    method: Patcher, hparams: Any, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> TrainedEditor:
    """The method's editor for the model as training begins, with statistics of a few gradients."""
    assert method.editor is not None
    editor = method.editor.untrained(hparams, model, seed=0)
    targets = {layer: projection(model, layer) for layer in hparams.layers}
    groups = [[edit] for edit in SEEN]
    problem = build_problem(tokenizer, groups, [Context()], [[]] * len(groups), model.device)
    with hooks.frozen(model):
        editor.observe(read_gradients(model, targets, problem))
    return editor


def trained_for(
    method: Patcher, hparams: Any, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> dict[str, Any]:
    """What a job of the method needs beside the others': an editor, or nothing."""
    if method.editor is None:
        return {}
    return {"trained": untrained(method, hparams, model, tokenizer)}
