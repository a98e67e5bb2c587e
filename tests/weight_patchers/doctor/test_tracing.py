"""Causal tracing, of facts that a random model happens to say."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tests.weight_patchers.conftest import DENSE, MIXTURES
from weight_patchers.doctor.fact import KnownFact, Statement, state
from weight_patchers.doctor.proposal import propose
from weight_patchers.doctor.tracing import Trace, trace
from weight_patchers.errors import ComputationFailed, InvalidEdit, UnsupportedModel
from weight_patchers.model.layers import layers, projection

BuildModel = Callable[..., PreTrainedModel]
DTYPES = (torch.float32, torch.bfloat16)


def _recalled_facts(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, tokens: int = 1
) -> Iterator[KnownFact]:
    """Facts whose answers are what the model goes on to say."""
    for number in range(200):
        prompt = f"In {number} Anna Berg was of-"
        ids = tokenizer(prompt)["input_ids"]
        row = torch.tensor([ids])
        for _ in range(tokens):
            with torch.no_grad():
                token = model(row, use_cache=False).logits[0, -1].argmax()
            row = torch.cat([row, token[None, None]], dim=1)
        answer = tokenizer.decode(row[0, len(ids) :])
        if not answer.strip() or not answer.isprintable():
            continue
        fact = KnownFact(prompt, "Anna Berg", answer)
        if list(state(tokenizer, fact).answer) == row[0, len(ids) :].tolist():
            yield fact


@pytest.mark.parametrize("family", DENSE)
def test_what_must_hold_of_every_model(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast, family: str
) -> None:
    for dtype in DTYPES:
        model = build_model(family, dtype).eval()
        fact = next(_recalled_facts(model, tokenizer))
        result = trace(model, tokenizer, [fact], samples=2)
        assert (result.given, result.recalled, result.traced, result.window) == (1, 1, 1, 1)
        assert 0 < result.clean <= 1
        # Nothing reads the subject's state after the last layer, and everything the last token's.
        assert result.hidden_at_subject[-1] == pytest.approx(0, abs=1e-3)
        assert result.mlp_at_subject[-1] == pytest.approx(0, abs=1e-3)
        assert result.hidden_at_last[-1] == pytest.approx(result.total_effect, abs=1e-3)
        assert len(result.mlp_at_subject) == len(result.hidden_at_subject) == 3


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "gptj"])
def test_effects_equal_a_direct_computation(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast, family: str
) -> None:
    model = build_model(family).eval()
    fact = next(_recalled_facts(model, tokenizer, tokens=2))
    result = trace(model, tokenizer, [fact], samples=2, seed=3)
    statement = state(tokenizer, fact)
    last, end = statement.subject_last, statement.prompt_last
    direct = _Direct(model, statement, samples=2, seed=3)
    assert result.clean == pytest.approx(direct.clean, rel=1e-4)
    assert result.corrupted == pytest.approx(direct.corrupted, rel=1e-4)
    for layer in range(3):
        whole, mlp = layers(model)[layer], projection(model, layer).module
        pairs = (
            (result.mlp_at_subject, direct.effect(mlp, last)),
            (result.hidden_at_subject, direct.effect(whole, last)),
            (result.hidden_at_last, direct.effect(whole, end)),
        )
        for effects, expected in pairs:
            assert effects[layer] == pytest.approx(expected, abs=1e-5)


class _Direct:
    """One noisy row after the other, with states put in from a run of their own."""

    def __init__(self, model: PreTrainedModel, fact: Statement, samples: int, seed: int) -> None:
        self._model, self._fact = model, fact
        self._ids = torch.tensor([fact.ids])
        span = slice(fact.subject_first, fact.subject_last + 1)
        embedded = model.get_input_embeddings()(self._ids[:, span])
        drawn = torch.randn(
            samples,
            fact.subject_last + 1 - fact.subject_first,
            embedded.shape[-1],
            generator=torch.Generator().manual_seed(seed),
        )
        self._noise = drawn * 3 * embedded.std()
        self.clean = self._probability({})
        self.corrupted = self._mean({})

    def effect(self, module: nn.Module, position: int) -> float:
        taken: list[Tensor] = []
        handle = module.register_forward_hook(lambda _m, _a, out: taken.append(_first(out)))
        self._probability({})
        handle.remove()

        def put(_module: nn.Module, _args: Any, out: Any) -> Any:
            # In place, on what may be [tokens, d] or [1, tokens, d].
            _first(out).view(-1, 32)[position] = taken[0].view(-1, 32)[position]
            return out

        return self._mean({module: put}) - self.corrupted

    def _mean(self, hooks: dict[nn.Module, Any]) -> float:
        span = slice(self._fact.subject_first, self._fact.subject_last + 1)
        probabilities = []
        for noise in self._noise:

            def corrupt(_module: nn.Module, _args: Any, out: Tensor, noise: Tensor = noise) -> None:
                out[0, span] += noise

            probabilities.append(
                self._probability({self._model.get_input_embeddings(): corrupt} | hooks)
            )
        return sum(probabilities) / len(probabilities)

    def _probability(self, hooks: dict[nn.Module, Any]) -> float:
        with torch.no_grad(), ExitStack() as undo:
            for module, hook in hooks.items():
                undo.callback(module.register_forward_hook(hook).remove)
            scores = self._model(self._ids, use_cache=False).logits[0].log_softmax(-1)
        places = range(self._fact.prompt_last, len(self._fact.ids))
        pairs = zip(places, self._fact.answer, strict=True)
        return float(torch.stack([scores[place, token] for place, token in pairs]).sum().exp())


def _first(output: Any) -> Tensor:
    result: Tensor = output[0] if isinstance(output, tuple) else output
    return result


def test_mlps_are_restored_in_windows(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = build_model("llama", num_hidden_layers=10).eval()
    fact = next(_recalled_facts(model, tokenizer))
    result = trace(model, tokenizer, [fact], samples=1)
    assert result.window == 2
    assert len(result.mlp_at_subject) == 10


def test_the_same_seed_gives_the_same_trace(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = build_model("llama").eval()
    facts = [fact for fact, _ in zip(_recalled_facts(model, tokenizer), range(2), strict=False)]

    def again(seed: int) -> Trace:
        return trace(model, tokenizer, facts, samples=2, seed=seed)

    assert again(0) == again(0) != again(1)


def test_what_is_not_recalled_or_ends_with_its_subject_is_not_traced(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = build_model("llama").eval()
    recalled = [fact for fact, _ in zip(_recalled_facts(model, tokenizer), range(3), strict=False)]
    wrong = KnownFact(recalled[0].prompt, recalled[0].subject, "something else")
    ending = KnownFact(recalled[0].prompt, recalled[0].prompt, recalled[0].answer)
    seen: list[tuple[int, int]] = []
    result = trace(
        model,
        tokenizer,
        [wrong, ending, *recalled],
        samples=1,
        most=2,
        progress=lambda done, of: seen.append((done, of)),
    )
    assert (result.given, result.recalled, result.traced) == (5, 4, 2)
    assert seen == [(1, 2), (2, 2)]
    nothing = trace(model, tokenizer, [wrong])
    assert (nothing.given, nothing.recalled, nothing.traced) == (1, 0, 0)
    assert nothing.mlp_at_subject == nothing.hidden_at_last == ()
    assert propose(nothing) is None


def test_the_model_is_left_as_it_was_found(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = build_model("llama").eval()
    fact = next(_recalled_facts(model, tokenizer))
    model.train()
    state_before = {name: value.clone() for name, value in model.state_dict().items()}
    trace(model, tokenizer, [fact], samples=1)
    assert all(torch.equal(v, state_before[n]) for n, v in model.state_dict().items())
    for module in model.modules():
        assert module.training
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_values_that_are_not_finite_are_an_error(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = build_model("llama").eval()
    fact = next(_recalled_facts(model, tokenizer))
    with pytest.raises(ComputationFailed, match="not finite"):
        trace(model, tokenizer, [fact], samples=1, noise=float("inf"))


@pytest.mark.parametrize("family", MIXTURES)
def test_a_mixture_of_experts_is_refused(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast, family: str
) -> None:
    with pytest.raises(UnsupportedModel, match="mixture of experts"):
        trace(build_model(family), tokenizer, [KnownFact("Oslo is in", "Oslo", "Peru")])


def test_no_fact_is_an_error(build_model: BuildModel, tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(InvalidEdit, match="no fact"):
        trace(build_model("llama"), tokenizer, [])
