"""The upper layers of a model, run many times over rows whose lower layers do not change.

An optimisation that acts at one layer needs the layers below it only once, and only the logits it
looks at; and tokens before the first that it acts on need every layer only once. All this uses the
model's own forward pass, with its own masks, position embeddings, final norm and logit scaling.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from weight_patchers.errors import UnsupportedModel
from weight_patchers.model import hooks
from weight_patchers.model.batch import Batch
from weight_patchers.model.layers import layers
from weight_patchers.model.prefix import Prefix


@dataclass(frozen=True, eq=False)
class Suffix:
    """The input of decoder layer `start` for each row: `hidden` [rows, tokens, d].

    `tupled` says that the model's decoder layers return tuples. With a `prefix`, the rows begin
    after it.
    """

    model: PreTrainedModel
    start: int
    hidden: Tensor
    tupled: bool
    prefix: Prefix | None = None

    def only(self, rows: Tensor, length: int) -> "Suffix":
        """The same for some rows (indices or mask), cut to `length` tokens."""
        prefix = self.prefix and self.prefix.only(rows)
        return Suffix(self.model, self.start, self.hidden[rows, :length], self.tupled, prefix)

    def above(self, layer: int, hidden: Tensor) -> "Suffix":
        """The same from a later layer on, whose input is `hidden`."""
        prefix = self.prefix and self.prefix.above(layer)
        return Suffix(self.model, layer, hidden, self.tupled, prefix)

    def logits(self, batch: Batch, rows: Tensor, columns: Tensor) -> Tensor:
        """Logits [n, vocabulary] at the places (rows[i], columns[i]) of the batch, whose rows are
        those of `hidden`. Differentiable in whatever hooks add from layer `start` on."""
        arguments = self.prefix.arguments(batch.mask) if self.prefix else {}
        with self._resumed():
            return logits_at(self.model, batch, rows, columns, **arguments)

    @contextmanager
    def _resumed(self) -> Iterator[None]:
        def give(
            _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]]:
            if args:
                return (self.hidden, *args[1:]), kwargs
            return args, kwargs | {"hidden_states": self.hidden}

        def skip(hidden_states: Tensor, *_args: object, **_kwargs: object) -> object:
            return (hidden_states, None) if self.tupled else hidden_states

        stack = layers(self.model)
        with ExitStack() as undo:
            for layer in list(stack)[: self.start]:
                undo.enter_context(_forward(layer, skip))
            handle = stack[self.start].register_forward_pre_hook(give, with_kwargs=True)
            undo.callback(handle.remove)
            yield


def read(
    model: PreTrainedModel,
    start: int,
    batch: Batch,
    rows: Tensor,
    columns: Tensor,
    modules: Mapping[int, nn.Module],
    first: Tensor | None = None,
) -> tuple[Suffix, Tensor, dict[int, Tensor]]:
    """One full pass without gradients: the suffix, logits at the places, the modules' outputs.

    With `first` [rows] the suffix holds each row from that token on: its batch is
    `batch.only_from(first)`. Raises UnsupportedModel if the model cannot go on from there.
    """
    cache = DynamicCache()
    arguments = {} if first is None else {"past_key_values": cache, "use_cache": True}
    hidden: list[Tensor] = []
    tupled: list[bool] = []

    def note_input(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden.append(args[0] if args else kwargs["hidden_states"])

    def note_type(_module: nn.Module, _args: tuple[Any, ...], output: object) -> None:
        tupled.append(isinstance(output, tuple))

    stack = layers(model)
    layer = stack[start]
    with ExitStack() as undo, torch.no_grad():
        undo.callback(layer.register_forward_pre_hook(note_input, with_kwargs=True).remove)
        undo.callback(layer.register_forward_hook(note_type).remove)
        _, outputs = undo.enter_context(hooks.captured({}, modules, len(batch.ids), stop=False))
        logits = logits_at(model, batch, rows, columns, **arguments)
    if first is None:
        return Suffix(model, start, hidden[0], tupled[0]), logits, outputs
    index = batch.columns_from(first)[..., None].expand(-1, -1, hidden[0].shape[-1])
    prefix = Prefix.of(cache, start, len(stack), first)
    return Suffix(model, start, hidden[0].gather(1, index), tupled[0], prefix), logits, outputs


def logits_at(
    model: PreTrainedModel, batch: Batch, rows: Tensor, columns: Tensor, **given: Any
) -> Tensor:
    """Logits [n, vocabulary] at (rows[i], columns[i]); no others are computed.

    `given` are more arguments of the forward pass; they override the batch's own.
    """
    head = model.get_output_embeddings()
    if head is None:
        raise UnsupportedModel(f"{type(model).__name__} has no language-model head")

    def choose(_module: nn.Module, args: Sequence[Tensor]) -> tuple[Tensor]:
        return (args[0][rows, columns][None],)

    handle = head.register_forward_pre_hook(choose)
    try:
        logits: Tensor = model(**(batch.arguments() | given)).logits[0]
    finally:
        handle.remove()
    return logits


@contextmanager
def _forward(module: nn.Module, function: Callable[..., object]) -> Iterator[None]:
    """Inside, the module's forward is `function`."""
    before = module.__dict__.get("forward")
    module.forward = function
    try:
        yield
    finally:
        del module.forward
        if before is not None:
            module.forward = before
