"""ROME on random models: its constraint, its keys, and edits one after another."""

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from weight_patchers import METHODS, Context, Delta, Edit, Statistics
from weight_patchers.errors import ComputationFailed
from weight_patchers.hyperparameters import override
from weight_patchers.model import hooks
from weight_patchers.model.layers import projection
from weight_patchers.model.tokenization import locate
from weight_patchers.rome import RomeHparams
from weight_patchers.rome.compute import rank_one
from weight_patchers.statistics.factor import factorize
from weight_patchers.values.contexts import sample_contexts
from weight_patchers.values.problem import Problem, kept_texts
from weight_patchers.values.workload import Mean, keys_and_states, plan_workload

Contexts = Sequence[Context]
BuildModel = Callable[..., PreTrainedModel]
Collect = Callable[..., Statistics]

EDIT = Edit("The capital of France is", "France", "Lima Oslo")
OTHER = Edit("Anna Berg was born in", "Anna Berg", "Paris")
BARE = (Context(),)
HPARAMS = RomeHparams(layer=1, step=0.5, steps=8, clamp=None, kl_factor=0.01, context_count=2)
FAMILIES = ["gemma2", "gpt2", "gptj", "llama", "neox", "opt", "phi", "qwen3"]


def _apply(model: PreTrainedModel, delta: Delta) -> None:
    for name, factor in delta.changes.items():
        change = factor.dense()
        model.get_parameter(name).data += change.T if factor.transposed else change


@pytest.mark.parametrize("family", FAMILIES)
def test_the_edited_matrix_maps_both_keys_to_the_value(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast, collected: Collect, family: str
) -> None:
    model = build_model(family).eval()
    contexts = sample_contexts(model, tokenizer, HPARAMS)
    delta = METHODS["rome"].compute(
        model, tokenizer, [EDIT], HPARAMS, collected(model), contexts=contexts
    )
    target = projection(model, 1)
    bare, contextual = _keys(model, tokenizer, contexts, Problem.apart)
    average = _keys(model, tokenizer, contexts, Problem.average)[0]
    (report,) = delta.diagnostics["edits"]
    with hooks.frozen(model):
        length = report["delta_norm"] * target.module(average).norm()
    change = delta.changes[target.name].dense()
    assert float((change @ bare).norm()) == pytest.approx(float(length), rel=1e-3)
    assert torch.allclose(change @ bare, change @ contextual, rtol=1e-2, atol=1e-4)
    assert report["probability_reached"] > report["probability_before"]


def _keys(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, contexts: Contexts, mean: Mean
) -> torch.Tensor:
    """The edit's keys [n, d_in]."""
    with hooks.frozen(model):
        work = plan_workload(model, tokenizer, [EDIT], contexts, HPARAMS)
        target = {0: projection(model, 1)}
        return keys_and_states(model, target, {}, work.problems, mean=mean)[0][0][:, 0]


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), decades=st.floats(0, 6))
def test_the_closed_form_meets_its_constraint_and_is_the_smallest(
    seed: int, decades: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    w, k, delta = (torch.randn(*shape, generator=generator) for shape in ((5, 9), (9,), (5,)))
    samples = torch.randn(40, 9, generator=generator) * torch.logspace(0, -decades / 2, 9)
    moment = samples.T @ samples / 40
    u, v = rank_one(k[None], delta, factorize(moment).solve(k)[None])
    assert torch.allclose((w + torch.outer(u, v)) @ k, w @ k + delta, atol=1e-3)
    inverse = torch.linalg.inv(moment.double())
    direction = inverse @ k.double()
    expected = torch.outer(delta.double(), direction) / (direction @ k.double())
    assert torch.allclose(torch.outer(u, v).double(), expected, rtol=1e-3, atol=1e-4)


def test_a_direction_across_the_key_is_an_error() -> None:
    with pytest.raises(ComputationFailed, match="orthogonal"):
        rank_one(torch.tensor([[1.0, 0.0]]), torch.ones(2), torch.tensor([[0.0, 1.0]]).double())


def test_two_keys_get_the_value_by_the_smallest_change() -> None:
    generator = torch.Generator().manual_seed(0)
    keys, delta, samples = (
        torch.randn(*shape, generator=generator).double() for shape in ((2, 9), (5,), (40, 9))
    )
    moment = samples.T @ samples / 40
    directions = factorize(moment).solve(keys.T).T
    u, v = (factor.double() for factor in rank_one(keys, delta, directions))
    assert torch.allclose(torch.outer(u, v) @ keys.T, delta[:, None].expand(-1, 2), atol=1e-4)
    # A change that leaves both keys alone makes the whole larger in the metric of C.
    free = torch.linalg.svd(keys).Vh[2:]
    aside = torch.outer(u, torch.randn(7, generator=generator).double() @ free)
    for sign in (1, -1):
        other = torch.outer(u, v) + sign * 1e-3 * aside
        assert (other @ moment * other).sum() > (
            torch.outer(u, v) @ moment * torch.outer(u, v)
        ).sum()


def test_equal_keys_are_met_as_one() -> None:
    key, delta = torch.tensor([1.0, 2.0, 0.0]), torch.ones(2)
    once = rank_one(key[None], delta, key[None].double())
    twice = rank_one(key.expand(2, -1), delta, key.expand(2, -1).double())
    assert torch.allclose(torch.outer(*once), torch.outer(*twice), atol=1e-6)


def test_later_edits_see_earlier_ones(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast, collected: Collect
) -> None:
    model = build_model("llama").eval()
    options = {"statistics": collected(model), "contexts": (Context(), Context("Oslo is big. "))}
    both = METHODS["rome"].compute(model, tokenizer, [EDIT, OTHER], HPARAMS, **options)
    (name,) = both.changes
    assert both.changes[name].rank == 2
    first = METHODS["rome"].compute(model, tokenizer, [EDIT], HPARAMS, **options)
    _apply(model, first)
    second = METHODS["rome"].compute(model, tokenizer, [OTHER], HPARAMS, **options)
    summed = first.changes[name].dense() + second.changes[name].dense()
    assert torch.allclose(both.changes[name].dense(), summed, rtol=1e-3, atol=1e-4)


def test_singular_statistics_still_give_a_good_edit(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast, collected: Collect
) -> None:
    model = build_model("llama").eval()
    good = collected(model)
    values, vectors = torch.linalg.eigh(good.moments[1].double())
    values[: len(values) // 2] = 0
    singular = ((vectors * values) @ vectors.T).float()
    bad = Statistics(good.fingerprint, "lines", good.count, "float32", {1: singular})
    deltas = [
        METHODS["rome"].compute(model, tokenizer, [EDIT], HPARAMS, given, contexts=BARE)
        for given in (good, bad)
    ]
    (plain,), (repaired,) = (delta.diagnostics["edits"] for delta in deltas)
    assert plain["ridge"] == 0 < repaired["ridge"]
    assert repaired["probability_after"] > 0.5 * plain["probability_after"]
    norms = [max(delta.diagnostics["relative_norm"].values()) for delta in deltas]
    assert norms[1] < 10 * norms[0]


def test_without_covariance_the_update_goes_along_the_key(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = build_model("llama").eval()
    hparams = RomeHparams(layer=1, steps=2, covariance=False, kl_prompts=())
    none = Statistics("f" * 64, "none", 0, "float32", {})
    delta = METHODS["rome"].compute(model, tokenizer, [EDIT], hparams, none, contexts=BARE)
    with hooks.frozen(model):
        work = plan_workload(model, tokenizer, [EDIT], BARE, hparams)
        k = keys_and_states(model, {0: projection(model, 1)}, {}, work.problems)[0][0][0, 0]
    (factor,) = delta.changes.values()
    assert torch.allclose(factor.v[:, 0], k / k.norm(), atol=1e-5)


@pytest.mark.parametrize("optimizer", ["adam", "gradient"])
def test_the_clamp_holds(
    build_model: BuildModel,
    tokenizer: PreTrainedTokenizerFast,
    collected: Collect,
    optimizer: str,
) -> None:
    model = build_model("llama").eval()
    hparams = RomeHparams(layer=1, optimizer=optimizer, step=1.0, clamp=0.75)
    delta = METHODS["rome"].compute(
        model, tokenizer, [EDIT], hparams, collected(model), contexts=BARE
    )
    assert 0 < delta.diagnostics["edits"][0]["delta_norm"] <= 0.7501


def test_the_same_call_gives_the_same_delta(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast, collected: Collect
) -> None:
    model = build_model("llama").eval()
    statistics = collected(model)
    first, second = (
        METHODS["rome"].compute(model, tokenizer, [EDIT], HPARAMS, statistics) for _ in range(2)
    )
    (name,) = first.changes
    assert torch.equal(first.changes[name].u, second.changes[name].u)
    assert torch.equal(first.changes[name].v, second.changes[name].v)


def test_mixed_keys_miss_the_value_that_one_key_meets(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast, collected: Collect
) -> None:
    model = build_model("llama").eval()
    statistics = collected(model)
    contexts = sample_contexts(model, tokenizer, HPARAMS)
    target = projection(model, 1)
    (averaged,) = _keys(model, tokenizer, contexts, Problem.average)
    (alone,) = _keys(model, tokenizer, contexts, Problem.alone)
    moved = {}
    for keys in ("averaged", "prompt", "mixed"):
        hparams = override(HPARAMS, {"keys": keys})
        delta = METHODS["rome"].compute(
            model, tokenizer, [EDIT], hparams, statistics, contexts=contexts
        )
        change = delta.changes[target.name].dense()
        moved[keys] = [float((change @ key).norm()) for key in (averaged, alone)]
    # Each form meets v* for the key it divides by; only the mixed one's direction is another's.
    assert moved["averaged"][0] == pytest.approx(moved["prompt"][1], rel=1e-3)
    assert moved["mixed"][1] == pytest.approx(moved["prompt"][1], rel=1e-3)
    assert moved["mixed"][0] != pytest.approx(moved["averaged"][0], rel=1e-3)


def test_what_the_model_says_of_the_subject_is_kept(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast, collected: Collect
) -> None:
    model = build_model("llama").eval()
    hparams = RomeHparams(layer=1, kept_samples=6, kl_factor=0.0, context_count=0, seed=1)
    (texts,) = kept_texts(model, tokenizer, ["Anna Berg"], hparams)
    assert len(texts) == 7
    assert texts[0].places == range(len(texts[0].ids) - 1, len(texts[0].ids))
    start = locate(tokenizer, "Anna Berg", "Anna Berg")
    for text in texts[1:]:
        assert text.ids[: len(start.ids)] == start.ids
        assert text.places == range(start.subject, len(start.ids) + hparams.kept_length)
    assert len({text.ids[len(start.ids)] for text in texts[1:]}) == 6

    statistics = collected(model)

    def drift(kl_factor: float) -> float:
        chosen = override(hparams, {"kl_factor": kl_factor, "steps": 10, "clamp": 1.0})
        delta = METHODS["rome"].compute(
            model, tokenizer, [OTHER], chosen, statistics, contexts=BARE
        )
        edited = build_model("llama").eval()
        _apply(edited, delta)
        total = 0.0
        for text in texts[1:]:
            ids = torch.tensor([text.ids])
            with torch.no_grad():
                now, before = (m(ids).logits.log_softmax(-1) for m in (edited, model))
            total += float(
                torch.nn.functional.kl_div(now, before, log_target=True, reduction="sum")
            )
        return total

    assert drift(100.0) < 0.7 * drift(0.0)


def test_a_target_that_is_said_already_changes_nothing(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast, collected: Collect
) -> None:
    model = build_model("llama").eval()
    hparams = override(HPARAMS, {"stop_probability": 1e-9})
    delta = METHODS["rome"].compute(
        model, tokenizer, [OTHER], hparams, collected(model), contexts=BARE
    )
    (report,) = delta.diagnostics["edits"]
    assert report["steps"] == 0
    assert set(delta.diagnostics["relative_norm"].values()) == {0.0}
    assert 0 < report["probability_after"] == pytest.approx(report["probability_before"])
