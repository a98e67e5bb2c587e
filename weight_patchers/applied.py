"""Deltas in a plain Transformers model."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel

from weight_patchers.delta import Delta
from weight_patchers.delta_sum import join_neurons, sum_deltas
from weight_patchers.model import hooks
from weight_patchers.model.extra_units import attached


@contextmanager
def applied(model: PreTrainedModel, deltas: Sequence[Delta]) -> Iterator[None]:
    """Inside, the model holds what it held and the deltas, the same in whatever order they are.

    Matrices are the cast of W + sum of their changes in float32; extra units are added by hooks.
    Afterwards the model is as it was, bit for bit. Whose base the deltas are of is not checked;
    raises WrongBase when they do not fit one another or the model.
    """
    changes = sum_deltas(deltas)
    weights = {name: model.get_parameter(name) for name in changes}
    with hooks.restored(list(weights.values())):
        with torch.no_grad():
            for name, change in changes.items():
                weights[name].copy_(change.added_to(weights[name]))
        with attached(model, join_neurons(deltas)):
            yield
