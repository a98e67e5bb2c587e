"""KN's formulas in float64, and what it finds and changes in small models."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from weight_patchers import METHODS, Context, Delta, Edit, LowRank, Statistics
from weight_patchers.errors import PatcherError
from weight_patchers.hyperparameters import build
from weight_patchers.kn.attribution import Asked, attributions
from weight_patchers.kn.compute import column_change
from weight_patchers.kn.facts import asked_in, contrast_facts, replaced_tokens
from weight_patchers.kn.selection import counting, shared_by_prompts, without_common
from weight_patchers.model import hooks
from weight_patchers.model.batch import pad
from weight_patchers.model.layers import layers, projection
from weight_patchers.model.suffix import logits_at

BuildModel = Callable[..., PreTrainedModel]

PARIS = Edit("The capital of France is", "France", "Lima", "Paris")
BERG = Edit("Anna Berg was born in", "Anna Berg", "Paris")
CONTEXTS = (Context(), Context("Oslo is big. "), Context("Anna works. "))
SMALL: dict[str, Any] = {"layers": (0, 1, 2), "contrast": 0, "threshold": 0.05}
"""A random model's attributions are spread over many neurons."""

STATISTICS = Statistics("0" * 64, "none", 0, "float32", {})


def _compute(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    *edits: Edit,
    live: tuple[Delta, ...] = (),
    **values: Any,
) -> Delta:
    hparams = build(METHODS["kn"].hparams, SMALL | values)
    return METHODS["kn"].compute(
        model, tokenizer, list(edits), hparams, STATISTICS, contexts=CONTEXTS, live=live
    )


def _neurons(delta: Delta, edit: int = 0) -> list[tuple[int, int]]:
    return [(n["layer"], n["index"]) for n in delta.diagnostics["edits"][edit]["neurons"]]


def _tanh_mlp_on_top(w: np.ndarray, weights: tuple[np.ndarray, ...], answer: int) -> np.ndarray:
    """d p / d w in float64, of p = softmax(head norm(x + W w)) with an RMS norm; by hand."""
    out, head, gain, residual, eps = weights
    x = residual + out @ w
    root = np.sqrt((x**2).mean() + eps)
    normed = x / root * gain
    z = head @ normed
    p = np.exp(z - z.max())
    p /= p.sum()
    to_logits = p[answer] * ((np.arange(len(z)) == answer) - p)
    to_normed = gain * (head.T @ to_logits)
    to_x = to_normed / root - x * (to_normed @ x) / (len(x) * root**3)
    gradient: np.ndarray = out.T @ to_x
    return gradient


def test_attributions_are_those_of_the_formula(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    """At the last layer of a Llama, where above the MLP are only a norm and the head."""
    model = build_model("llama").eval()
    asked = asked_in(tokenizer, [PARIS.prompt, BERG.prompt], "Paris")
    targets = [projection(model, layer) for layer in (1, 2)]
    with hooks.frozen(model):
        found = attributions(model, targets, asked, steps=7)[2]
    block: Any = layers(model)[2]
    for row, text in zip(found, asked, strict=True):
        modules = {0: block.mlp.down_proj}, {0: block, 1: block.mlp.down_proj}
        with torch.no_grad(), hooks.captured(*modules, 1, stop=False) as (inner, outer):
            model(input_ids=torch.tensor([text.ids]))
        w = inner[0][0, -1].double().numpy()
        norm: Any = model.get_decoder().norm
        weights = (
            block.mlp.down_proj.weight.detach().double().numpy(),
            model.get_output_embeddings().weight.detach().double().numpy(),
            norm.weight.detach().double().numpy(),
            (outer[0] - outer[1])[0, -1].double().numpy(),
            norm.variance_epsilon,
        )
        steps = [_tanh_mlp_on_top(k / 7 * w, weights, text.answer) for k in range(1, 8)]
        expected = w * np.mean(steps, axis=0)
        assert np.allclose(row.numpy(), expected, rtol=1e-3, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("family", ["gpt2", "gptj", "llama", "neox", "opt"])
def test_the_attributions_of_a_layer_sum_to_the_difference_of_p(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast, family: str
) -> None:
    model = build_model(family).eval()
    asked = asked_in(tokenizer, [PARIS.prompt], "Paris", CONTEXTS)
    targets = [projection(model, layer) for layer in range(3)]
    with torch.no_grad():
        for target in targets:
            # Random weights as large as these would make p jump, where no sum follows it.
            target.weight.mul_(0.1)
    with hooks.frozen(model):
        whole = torch.tensor(
            [[_difference(model, layer, text) for text in asked] for layer in range(3)]
        )
        errors = []
        for steps in (8, 32, 128):
            found = attributions(model, targets, asked, steps)
            sums = torch.stack([found[layer].sum(1) for layer in range(3)])
            errors.append(float((sums - whole).norm() / whole.norm()))
    # The error of a sum over steps falls with their number.
    assert errors[2] < 0.02
    assert errors[2] < 0.4 * errors[1] < 0.16 * errors[0]


def _difference(model: PreTrainedModel, layer: int, text: Asked) -> float:
    """p of the answer as it is, less p with the layer's neurons at 0 at the last token."""
    target = projection(model, layer)

    def without(_module: Any, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        values = args[0].clone()
        values.view(1, -1, values.shape[-1])[:, -1] = 0
        return (values,)

    def p() -> float:
        row = torch.zeros(1, dtype=torch.int64)
        batch = pad([text.ids], model.device)
        with torch.no_grad():
            logits = logits_at(model, batch, row, row + len(text.ids) - 1)
        return float(logits[0].softmax(-1)[text.answer])

    whole = p()
    handle = target.module.register_forward_pre_hook(without)
    try:
        return whole - p()
    finally:
        handle.remove()


def test_neurons_count_from_a_share_of_the_largest_attribution() -> None:
    scores = torch.tensor([[1.0, 0.2, 0.19, -3.0], [-1.0, -0.5, -0.1, -2.0]])
    assert counting(scores, 0.2).tolist() == [[True, True, False, False], [False] * 4]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        # Of ten prompts: three neurons in at least seven.
        ([10, 8, 7, 6, 2], [0, 1, 2]),
        # One in seven, so the share falls until there are two.
        ([9, 5, 4, 4], [0, 1]),
        # Six in seven and more, so it rises until there are five at most.
        ([7, 8, 8, 9, 9, 10], [1, 2, 3, 4, 5]),
        # Six in all of them: no share makes them fewer.
        ([10] * 6, [0, 1, 2, 3, 4, 5]),
        # The share falls to .45 at most.
        ([3, 4, 2], []),
        ([], []),
    ],
)
def test_a_fact_has_two_to_five_neurons_where_a_share_of_its_prompts_gives_them(
    columns: list[int], expected: list[int]
) -> None:
    counts = torch.tensor([[row < count for count in columns] for row in range(10)])
    counts = counts.reshape(10, len(columns)).bool()
    assert shared_by_prompts(counts, 0.7).nonzero()[:, 0].tolist() == expected


def test_three_prompts_are_needed_if_there_are_three() -> None:
    counts = torch.tensor([[True, True], [True, True], [True, False]])
    assert shared_by_prompts(counts, 0.5).tolist() == [True, False]
    assert shared_by_prompts(counts[:1], 0.7).tolist() == [True, True]


def test_neurons_of_other_facts_are_left_out() -> None:
    own = torch.tensor([True, True, True, False])
    others = [torch.tensor([i < 2, i < 1, False, True]) for i in range(10)]
    assert without_common(own, others, 0.1).tolist() == [False, True, True, False]
    assert without_common(own, others, 0.0).tolist() == [False, False, True, False]
    assert without_common(own, [], 0.1).tolist() == own.tolist()


def test_a_column_changes_as_in_the_paper() -> None:
    rng = np.random.default_rng(0)
    columns, old, new = rng.normal(size=(6, 3)), rng.normal(size=6), 5 * rng.normal(size=6)
    expected = np.stack(
        [
            -1.0 * np.linalg.norm(c) / np.linalg.norm(old) * old
            + 8.0 * np.linalg.norm(c) / np.linalg.norm(new) * new
            for c in columns.T
        ],
        axis=1,
    )
    found = column_change(*(torch.tensor(x) for x in (columns, old, new)), 1.0, 8.0)
    assert np.allclose(found.numpy(), expected)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_only_the_named_columns_change_by_the_base_norm_and_the_embeddings(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast, family: str
) -> None:
    model = build_model(family).eval()
    delta = _compute(model, tokenizer, PARIS)
    embeddings: Any = model.get_input_embeddings()
    ids = [asked_in(tokenizer, [PARIS.prompt], answer)[0].answer for answer in ("Paris", "Lima")]
    old, new = embeddings.weight.detach()[ids]
    named = _neurons(delta)
    assert named
    for layer in range(3):
        target = projection(model, layer)
        own = sorted(index for place, index in named if place == layer)
        if not own:
            assert target.name not in delta.changes
            continue
        change = delta.changes[target.name]
        assert isinstance(change, LowRank)
        assert change.transposed == (family == "gpt2")
        dense = change.dense()
        assert sorted(dense.norm(dim=0).nonzero()[:, 0].tolist()) == own
        expected = column_change(target.matrix()[:, own], old, new, 1.0, 8.0)
        assert torch.allclose(dense[:, own], expected, rtol=1e-5)
    reports = delta.diagnostics["edits"][0]["neurons"]
    assert [n["attribution"] for n in reports] == sorted(
        (n["attribution"] for n in reports), reverse=True
    )


def test_without_an_answer_before_it_is_what_the_model_says(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = build_model("llama").eval()
    edit = Edit(PARIS.prompt, PARIS.subject, PARIS.target_new)
    with hooks.frozen(model):
        (replaced,) = replaced_tokens(model, tokenizer, edit, CONTEXTS, all_tokens=False)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([tokenizer(PARIS.prompt)["input_ids"]])).logits
    assert replaced.old == int(logits[0, -1].argmax())
    assert {asked.answer for asked in replaced.asked} == {replaced.old}
    said = tokenizer.decode([replaced.old])
    assert replaced.new != replaced.old, said


def test_all_tokens_of_a_target_are_written_each_at_its_place(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = build_model("llama").eval()
    edit = Edit(PARIS.prompt, PARIS.subject, "Lima Oslo Novatech", "Paris")
    target = tokenizer(f"{edit.prompt} {edit.target_new}")["input_ids"]
    prompt = tokenizer(edit.prompt)["input_ids"]
    with hooks.frozen(model):
        first = replaced_tokens(model, tokenizer, edit, CONTEXTS, all_tokens=False)
        every = replaced_tokens(model, tokenizer, edit, CONTEXTS, all_tokens=True)
    assert [r.new for r in first] == [target[len(prompt)]]
    assert [r.new for r in every] == target[len(prompt) :]
    for place, replaced in enumerate(every):
        assert list(replaced.asked[0].ids) == target[: len(prompt) + place]
    assert every[0] == first[0]
    one, all_of_them = (
        _compute(model, tokenizer, edit, tokens=tokens) for tokens in ("first", "all")
    )
    assert len(_neurons(all_of_them)) > len(_neurons(one))


def test_an_answer_that_is_told_already_changes_nothing(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = build_model("llama").eval()
    delta = _compute(model, tokenizer, Edit(PARIS.prompt, PARIS.subject, "Paris", "Paris"))
    assert not delta.changes
    assert _neurons(delta) == []
    assert delta.diagnostics["drift"]["max"] == pytest.approx(0.0, abs=1e-6)


def test_edits_of_a_batch_leave_out_what_they_share(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = build_model("llama").eval()
    other = Edit("The capital of Peru is", "Peru", "Oslo", "Paris")
    own = [_neurons(_compute(model, tokenizer, edit)) for edit in (PARIS, other)]
    together = _compute(model, tokenizer, PARIS, other)
    shared = set(own[0]) & set(own[1])
    for number, neurons in enumerate(own):
        assert set(_neurons(together, number)) == set(neurons) - shared


def test_common_facts_are_of_different_relations_and_not_about_the_subject(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    facts = contrast_facts(10, seed=0)
    assert len({fact.relation for fact in facts}) == 10
    assert contrast_facts(10, seed=0) == facts
    model = build_model("llama").eval()
    alone, held_against = (
        set(_neurons(_compute(model, tokenizer, PARIS, contrast=n, common=0.0))) for n in (0, 10)
    )
    assert held_against <= alone


def test_an_edit_does_not_depend_on_what_is_live(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = build_model("llama").eval()
    alone = _compute(model, tokenizer, BERG)
    live = _compute(model, tokenizer, PARIS)
    with torch.no_grad():
        for name, change in live.changes.items():
            model.get_parameter(name).add_(change.dense())
    state = {key: value.clone() for key, value in model.state_dict().items()}
    below = _compute(model, tokenizer, BERG, live=(live,))
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert _neurons(below) == _neurons(alone)
    for name, change in below.changes.items():
        assert torch.allclose(change.dense(), alone.changes[name].dense(), rtol=1e-3, atol=1e-5)


def test_output_embeddings_are_an_option(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = build_model("llama", tie_word_embeddings=False).eval()
    one, other = (_compute(model, tokenizer, PARIS, embedding=kind) for kind in ("input", "output"))
    assert _neurons(one) == _neurons(other)
    head: Any = model.get_output_embeddings()
    ids = [asked_in(tokenizer, [PARIS.prompt], answer)[0].answer for answer in ("Paris", "Lima")]
    old, new = head.weight.detach()[ids]
    for name, change in other.changes.items():
        own = change.dense().norm(dim=0).nonzero()[:, 0]
        columns = model.get_parameter(name).detach()[:, own]
        assert torch.allclose(change.dense()[:, own], column_change(columns, old, new, 1.0, 8.0))
        assert not torch.allclose(change.dense(), one.changes[name].dense())


def test_a_model_whose_embeddings_are_narrower_is_refused(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = build_model("opt", word_embed_proj_dim=16).eval()
    with pytest.raises(PatcherError, match="cannot be added to a neuron's value"):
        _compute(model, tokenizer, PARIS)
