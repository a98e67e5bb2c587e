"""Estimates what weight edits cost: time from measured passes, memory from shapes."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from weight_patchers.alphaedit import AlphaEditHparams
from weight_patchers.calinet import CalinetHparams
from weight_patchers.fine_tuning import BreadthFirstHparams
from weight_patchers.kn import KnHparams
from weight_patchers.methods import Patcher
from weight_patchers.model import hooks
from weight_patchers.model.batch import Batch
from weight_patchers.model.layers import depth, projection, width
from weight_patchers.model.mlp import mlp
from weight_patchers.model.suffix import Suffix, read
from weight_patchers.spreading.hparams import SpreadHparams
from weight_patchers.t_patcher import TPatcherHparams
from weight_patchers.trained.hparams import TrainedHparams
from weight_patchers.values.hparams import ContextHparams, ValueHparams
from weight_patchers.values.passes import pass_tokens

# Matrices of this size are timed; times that grow with the cube of the size are scaled.
_PROBE = 512
_WITH_UNITS = (CalinetHparams, TPatcherHparams)
_WITH_EIGENVECTORS = (AlphaEditHparams, BreadthFirstHparams)
_BATCHES = (4, 32)
_REPEATS = 3
# Neurons that an edit with KN is assumed to change.
_NEURONS = 5
# Tokens that a target is assumed to have.
_TARGET = 2


@dataclass(frozen=True)
class Pace:
    """A pass over n rows takes `fixed` + n * `row` seconds."""

    fixed: float
    row: float

    def seconds(self, passes: float, rows: float) -> float:
        """The time of `passes` passes of `rows` rows each."""
        return passes * (self.fixed + rows * self.row)


@dataclass(frozen=True)
class Speed:
    """How long passes over rows of `tokens` tokens take on the model's device.

    `forward`: through the whole model, without gradients. `step`: forward and backward through
    the layers from `layer` on, which is what one step of an optimisation at that layer does.
    """

    layer: int
    tokens: int
    forward: Pace
    step: Pace


@dataclass(frozen=True)
class Cost:
    """What `edits` edits of one method take, as `cost` defines it."""

    edits: int
    seconds: float
    device_bytes: int
    host_bytes: int
    delta_bytes: int


def measure(model: PreTrainedModel, layer: int, tokens: int = 16) -> Speed:
    """Passes over random tokens, the fastest of three at each of two batch sizes.

    The model is left unchanged.
    """
    with hooks.frozen(model):
        small, large = (_passes(model, layer, rows, tokens) for rows in _BATCHES)
    paces = []
    for few, many in zip(small, large, strict=True):
        row = max(0.0, (many - few) / (_BATCHES[1] - _BATCHES[0]))
        paces.append(Pace(max(0.0, few - _BATCHES[0] * row), row))
    return Speed(layer, tokens, *paces)


def _passes(model: PreTrainedModel, layer: int, rows: int, tokens: int) -> tuple[float, float]:
    """Seconds of one forward pass and of one step."""
    generator = torch.Generator().manual_seed(0)
    vocabulary = int(model.config.get_text_config().vocab_size)
    ids = torch.randint(vocabulary, (rows, tokens), generator=generator).to(model.device)
    row = torch.arange(rows, device=model.device)
    last = torch.full_like(row, tokens - 1)
    batch = Batch(ids, torch.ones_like(ids))
    module = projection(model, layer).module

    def forward() -> Suffix:
        return read(model, layer, batch, row, last, {})[0]

    def step() -> None:
        value = torch.zeros(rows, width(model), device=model.device).requires_grad_()
        with hooks.added(module, last, value):
            scores = suffix.logits(batch, row, last).float().log_softmax(-1)
        torch.autograd.grad(scores.sum(), value)

    suffix = forward()
    return _fastest(forward, model.device), _fastest(step, model.device)


def preparation(model: PreTrainedModel, hparams: Any) -> float:
    """Seconds spent once for a model before the first edit, without collecting statistics.

    Each layer's second moment is factored in float64 on the CPU, or, for AlphaEdit and FT-BF, its
    eigenvectors are computed; the time is scaled with the cube of the size from a smaller matrix.
    """
    if not hparams.covariance:
        return 0.0
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(_PROBE, _PROBE, dtype=torch.float64, generator=generator)
    matrix = sample @ sample.T / _PROBE + torch.eye(_PROBE, dtype=torch.float64)
    work: Callable[[Tensor], object] = (
        torch.linalg.eigh if isinstance(hparams, _WITH_EIGENVECTORS) else torch.linalg.cholesky
    )
    each = _fastest(lambda: work(matrix), torch.device("cpu"))
    return sum((projection(model, i).d_in / _PROBE) ** 3 * each for i in hparams.layers)


def cost(model: PreTrainedModel, method: Patcher, hparams: Any, edits: int, speed: Speed) -> Cost:
    """An upper bound of the time, and an estimate of the memory, with d_in and d_out the key's
    and the value's width, L layers written, t tokens a row, all bytes unless said otherwise:

    - seconds: edits that share a pass take (steps + 1) steps and 2 + L forward passes with a row
      for each context, kept prompt and kept sample of each of them. A value's optimisation may
      stop early. Methods that take edits one after another share no pass; the others fill it
      with as many edits as `pass_tokens` or else `passes.pass_tokens` allows. KN takes a step for
      each layer, with a token for each step of each context, and once for its common facts.
    - device: the model; what is written, kept beside (4 d_in d_out L) and added up in float32
      (8 d_in d_out; for fine-tuning with gradient and Adam's moments 16 d_in d_out L); one pass
      with gradients, tokens * layers above * (6 d + 3 d_in) values; and its logits, 4 floats for
      each entry of the vocabulary wherever a target token or a kept token is predicted.
    - host, where there are key statistics: for each layer the moment, 4 d_in^2, and its factor
      or null space, 8 d_in^2; while these are made 16 d_in^2, for eigenvectors 24 d_in^2; and
      the keys of the edits, k for each, and what is solved for, 24 d_in k edits.
    - delta: 4 (d_in + d_out) k edits L, with keys 4 d_in k edits L more, or 4 d_in d_out L if
      dense; for KN that of five neurons an edit. For a trained editor, whose own network is not
      counted, k is the most that a change's rank can be, t + 1 for each row and step. For extra
      units 4 d for each part of each, of which the device has four times as much instead of a
      matrix.
    """
    targets = [projection(model, layer) for layer in hparams.layers]
    count = len(targets)
    d_in, d_out = max(t.d_in for t in targets), max(t.d_out for t in targets)
    if isinstance(hparams, KnHparams):
        return _cost_of_neurons(model, hparams, edits, speed)
    trained = isinstance(hparams, TrainedHparams)
    with_units = isinstance(hparams, _WITH_UNITS)
    dense = not (trained or with_units or isinstance(hparams, ValueHparams))
    rows, places = _rows(hparams)
    together = edits if method.batch else 1
    bound = hparams.pass_tokens if isinstance(hparams, ValueHparams) else None
    fitting = (pass_tokens(model) if bound is None else bound) // (rows * speed.tokens)
    held = min(together, max(1, fitting))
    seconds = speed.step.seconds(hparams.steps + 1, held * rows)
    seconds = (seconds + speed.forward.seconds(2 + count, held * rows)) * edits / held
    size = targets[0].weight.element_size()
    above = (depth(model) - min(hparams.layers)) * (6 * width(model) + 3 * d_in)
    logits = _logits(model)
    units = _unit_bytes(model, hparams, edits) if with_units else 0
    added = 16 * count if dense else 8
    written = 4 * units if with_units else (4 * count + added) * d_in * d_out
    device = model_bytes(model) + written
    device += held * (rows * speed.tokens * above * size + places * logits)

    null = isinstance(hparams, _WITH_EIGENVECTORS)
    keyed = isinstance(hparams, AlphaEditHparams)
    each = 2 if isinstance(hparams, SpreadHparams) and hparams.keys == "both" else 1
    if trained:
        each = hparams.steps * rows * (speed.tokens + 1)
    host = 0
    if hparams.covariance:
        host = (12 * count + (24 if null else 16)) * d_in**2 + 24 * d_in * together * each
    low_rank = 4 * (d_in * (2 if keyed else 1) + d_out) * each * edits * count
    delta = 4 * d_in * d_out * count if dense else units or low_rank
    return Cost(edits, seconds, device, host, delta)


def _unit_bytes(
    model: PreTrainedModel, hparams: CalinetHparams | TPatcherHparams, edits: int
) -> int:
    """Bytes of the extra units that the edits get at most."""
    target = mlp(model, hparams.layer)
    parts = 3 if target.gated else 2
    bias = int(target.biased and not target.gated)
    return 4 * hparams.units(edits) * (parts * target.output.d_out + bias)


def _cost_of_neurons(model: PreTrainedModel, hparams: KnHparams, edits: int, speed: Speed) -> Cost:
    """What KN's edits take, as `cost` states it; a pass holds the steps of one edit's contexts."""
    target = projection(model, hparams.layers[0])
    contexts = _contexts(hparams)
    steps = (edits * contexts + hparams.contrast) * hparams.steps
    seconds = len(hparams.layers) * (
        speed.step.seconds(edits + hparams.contrast, 0)
        + speed.step.seconds(1, steps / speed.tokens)
        - speed.step.fixed
    )
    above = depth(model) * (6 * width(model) + 3 * target.d_in)
    held = contexts * hparams.steps * (above * target.weight.element_size() + _logits(model))
    device = model_bytes(model) + 4 * len(hparams.layers) * target.d_in * target.d_out + held
    delta = 4 * _NEURONS * edits * (target.d_in + target.d_out)
    return Cost(edits, seconds, device, 0, delta)


def model_bytes(model: PreTrainedModel) -> int:
    """Bytes of parameters and buffers; shared ones count once."""
    tensors = [*model.parameters(), *model.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _rows(hparams: Any) -> tuple[int, int]:
    """Rows of tokens for one edit, and how many places in them need logits."""
    contexts = _contexts(hparams)
    if not isinstance(hparams, ValueHparams):
        return contexts, contexts * _TARGET
    prompts, samples = len(hparams.kl_prompts), hparams.kept_samples
    places = contexts * _TARGET + prompts + samples * (hparams.kept_length + 1)
    return contexts + prompts + samples, places


def _contexts(hparams: Any) -> int:
    """How many contexts a prompt is put in, the bare one among them."""
    contexts = 1 + int(hparams.chat is not False)
    if isinstance(hparams, ContextHparams):
        contexts += hparams.context_count * len(hparams.context_lengths)
    return contexts


def _logits(model: PreTrainedModel) -> int:
    """Bytes of what is computed for all of the vocabulary where one token is predicted."""
    return 16 * int(model.config.get_text_config().vocab_size)


def _fastest(work: Callable[[], object], device: torch.device) -> float:
    taken = []
    for _ in range(_REPEATS):
        _wait(device)
        begun = time.perf_counter()
        work()
        _wait(device)
        taken.append(time.perf_counter() - begun)
    return min(taken)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
