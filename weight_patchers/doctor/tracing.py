"""Causal tracing: at which layers and tokens a model recalls its facts.

Meng et al. 2022, "Locating and editing factual associations in GPT" (arXiv 2202.05262), section 2
and appendix B. The subject's embeddings are corrupted with Gaussian noise, one part of the clean
run is restored, and the rise of the answer's probability is the part's indirect effect. It shows
which layers carry a fact; these are not always the best to edit (Hase et al. 2023, arXiv
2301.04213).
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from weight_patchers.doctor.fact import KnownFact, Statement, probabilities, recalls, state
from weight_patchers.errors import ComputationFailed, InvalidEdit
from weight_patchers.model import hooks
from weight_patchers.model.layers import depth, layers, projection

# MLPs are restored together in windows of 10 of GPT-2 XL's 48 layers (section 2.2).
_WINDOW_SHARE = 10 / 48

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Trace:
    """Means over the facts that were traced, of probabilities of the whole answer.

    Of `given` facts the model recalls `recalled`: greedy decoding gives the answer. `traced` of
    them were traced, each with `samples` draws of noise. `clean` and `corrupted` are the
    probabilities without and with noise. The effects are p(restored) - p(corrupted), one for
    each layer: of the MLP outputs of `window` layers around it at the subject's last token, of
    the layer's output there, and of the layer's output at the prompt's last token. They are
    empty when no fact was traced.
    """

    given: int
    recalled: int
    traced: int
    samples: int
    window: int
    clean: float
    corrupted: float
    mlp_at_subject: tuple[float, ...]
    hidden_at_subject: tuple[float, ...]
    hidden_at_last: tuple[float, ...]

    @property
    def total_effect(self) -> float:
        """What the noise takes away: p(clean) - p(corrupted)."""
        return self.clean - self.corrupted


def trace(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    facts: Sequence[KnownFact],
    *,
    samples: int = 10,
    noise: float = 3.0,
    most: int = 50,
    seed: int = 0,
    progress: Progress | None = None,
) -> Trace:
    """Trace the first `most` facts that the model recalls and whose prompt continues after the
    subject: otherwise the subject's last token is also the prompt's.

    The noise's standard deviation is `noise` times that of the entries of the embeddings of the
    facts' subjects. For each fact the model runs 3 * depth + 1 times, the clean run and all
    samples in one batch, on the same noise each time; the noise depends on `seed` and the
    fact's place in `facts`. `progress(done, of)` counts traced facts. The model is left
    unchanged. Raises UnsupportedModel, UnsupportedTokenizer or InvalidEdit when the model, the
    tokenizer or a fact does not allow it or there are no facts, ComputationFailed on values that
    are not finite.
    """
    if not facts:
        raise InvalidEdit("there is no fact to trace: give at least one")
    window = max(1, round(_WINDOW_SHARE * depth(model)))
    sites = _Sites(model, [projection(model, i).module for i in range(depth(model))], window)
    statements = [state(tokenizer, fact) for fact in facts]
    with hooks.frozen(model), torch.no_grad():
        recalled = [i for i, statement in enumerate(statements) if recalls(model, statement)]
        chosen = [i for i in recalled if statements[i].subject_last < statements[i].prompt_last]
        chosen = chosen[:most]
        scale = noise * _spread(model, statements)
        rows = []
        for done, i in enumerate(chosen):
            drawn = _draw(model, statements[i], samples, scale, seed + i)
            rows.append(_measure(_Run(model, statements[i], drawn), sites))
            if progress is not None:
                progress(done + 1, len(chosen))
    mean = torch.stack(rows).mean(0) if rows else torch.zeros(2)
    if not bool(torch.isfinite(mean).all()):
        raise ComputationFailed("the model itself gives values that are not finite")
    clean, corrupted, *effects = mean.tolist()
    mlp, subject, last = (tuple(effects[kind::3]) for kind in range(3))
    return Trace(
        given=len(facts),
        recalled=len(recalled),
        traced=len(chosen),
        samples=samples,
        window=window,
        clean=clean,
        corrupted=corrupted,
        mlp_at_subject=mlp,
        hidden_at_subject=subject,
        hidden_at_last=last,
    )


@dataclass(frozen=True, eq=False)
class _Sites:
    """What can be restored: layers, and the MLPs of a window of layers."""

    model: PreTrainedModel
    mlps: Sequence[nn.Module]
    window: int

    def around(self, layer: int) -> Sequence[nn.Module]:
        """The MLPs of the window around a layer, cut at the ends of the model."""
        start = layer - self.window // 2
        return self.mlps[max(0, start) : start + self.window]


@dataclass(frozen=True, eq=False)
class _Run:
    """Row 0 is the clean run; row 1 + i has the noise i of [samples, subject tokens, d]."""

    model: PreTrainedModel
    fact: Statement
    noise: Tensor

    def restore(self, modules: Sequence[nn.Module], position: int) -> Tensor:
        """The answer's probability in each row, on the CPU, where the modules' outputs at the
        position are those of the clean run."""
        fact, rows = self.fact, len(self.noise) + 1

        def corrupt(output: Tensor) -> Tensor:
            output = output.clone()
            output[1:, fact.subject_first : fact.subject_last + 1] += self.noise.to(output.dtype)
            return output

        def copy(output: Tensor) -> Tensor:
            output = output.clone()
            output[1:, position] = output[0, position]
            return output

        with ExitStack() as undo:
            embedding = self.model.get_input_embeddings()
            undo.enter_context(hooks.changed(embedding, rows, corrupt))
            for module in modules:
                undo.enter_context(hooks.changed(module, rows, copy))
            return probabilities(self.model, fact, rows)


def _measure(run: _Run, sites: _Sites) -> Tensor:
    """p(clean), p(corrupted), and for each layer the three effects, in one row."""
    fact = run.fact
    both = run.restore([], 0)
    clean, corrupted = both[0], both[1:].mean()
    row = [clean, corrupted]
    for layer, hidden in enumerate(layers(sites.model)):
        for modules, position in (
            (sites.around(layer), fact.subject_last),
            ([hidden], fact.subject_last),
            ([hidden], fact.prompt_last),
        ):
            row.append(run.restore(modules, position)[1:].mean() - corrupted)
    return torch.stack(row)


def _spread(model: PreTrainedModel, facts: Sequence[Statement]) -> float:
    """The standard deviation of the entries of the subjects' embeddings."""
    ids = [i for fact in facts for i in fact.ids[fact.subject_first : fact.subject_last + 1]]
    embedded = model.get_input_embeddings()(torch.tensor([ids], device=model.device))
    return float(embedded.float().std())


def _draw(model: PreTrainedModel, fact: Statement, samples: int, scale: float, seed: int) -> Tensor:
    """Noise [samples, subject tokens, d], float32 on the model's device."""
    generator = torch.Generator().manual_seed(seed)
    width = int(cast("Tensor", model.get_input_embeddings().weight).shape[1])
    tokens = fact.subject_last + 1 - fact.subject_first
    return (torch.randn(samples, tokens, width, generator=generator) * scale).to(model.device)
