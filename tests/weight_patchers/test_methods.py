"""What every weight method promises, on random models of several families."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tests.weight_patchers.trained.editors import trained_for
from weight_patchers import METHODS, Context, Delta, Edit, LowRank, Patcher, Statistics, applied
from weight_patchers.errors import ConflictingEdits, InvalidHyperparameters, PatcherError
from weight_patchers.hyperparameters import build, find, override
from weight_patchers.model import hooks
from weight_patchers.model.layers import layers, projection
from weight_patchers.model.mlp import mlp
from weight_patchers.spreading.aims import own_aims
from weight_patchers.values.optimisation import Site, TargetValues, optimise_delta, target_outcome
from weight_patchers.values.problem import Problem
from weight_patchers.values.workload import Mean, compute_z, keys_and_states, plan_workload

BuildModel = Callable[..., PreTrainedModel]
Collect = Callable[..., Statistics]

PARIS = Edit("The capital of France is", "France", "Lima Oslo")
BERG = Edit("Anna Berg was born in", "Anna Berg", "Paris")
WORK = Edit("Anna Berg works for", "Anna Berg", "Oslo")
CONTEXTS = (Context(), Context("Oslo is big. "))
ROOM = {"optimizer": "adam", "step": 0.4, "steps": 25, "clamp": None, "kl_factor": 0.01}
OTHER_TEXT = {"memory_texts": 8, "memory_length": 8}
VALUES: dict[str, dict[str, Any]] = {
    "rome": {"layer": 1, **ROOM},
    "memit": {"layers": (0, 1), "covariance_weight": 0.01, **ROOM},
    "pmet": {"layers": (0, 1), "covariance_weight": 0.01, **ROOM},
    "emmet": {"layers": (1,), "ridge": 1e-3, **ROOM},
    "alphaedit": {"layers": (0, 1), "null_share": 0.7, "ridge": 1e-3, **ROOM},
    "ft-l": {"layer": 1, "rate": 0.02, "steps": 20, "norm_bound": 0.05},
    "ft-m": {"layer": 1, "rate": 0.02, "steps": 20},
    "ft-bf": {"layers": (0, 1), "rate": 0.1, "steps": 20, "spared": 0.5},
    "kn": {"layers": (0, 1), "threshold": 0.02, "contrast": 0, "steps": 5},
    "t-patcher": {"layer": 1, "gain": 1.0, "spread": 0.0, "rate": 0.02, "steps": 40, **OTHER_TEXT},
    "calinet": {"layer": 1, "slots": 16, "rate": 0.02, "steps": 20, **OTHER_TEXT},
    "mend": {"layers": (0, 1), "rank": 8, "step": 1e-3},
    "ke": {"layers": (0, 1), "hidden": 8, "condition": 8, "inner": 8},
}
BATCH = sorted(name for name, method in METHODS.items() if method.batch)
SPREADING = ["alphaedit", "emmet", "memit", "pmet"]


def _hparams(method: Patcher, **values: object) -> Any:
    return build(method.hparams, VALUES[method.name] | values)


def _compute(
    name: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    edits: list[Edit],
    statistics: Statistics,
    live: tuple[Delta, ...] = (),
    **values: object,
) -> Delta:
    method = METHODS[name]
    hparams = _hparams(method, **values)
    return method.compute(
        model, tokenizer, edits, hparams, statistics,
        contexts=CONTEXTS, live=live, **trained_for(method, hparams, model, tokenizer),
    )  # fmt: skip


def _apply(model: PreTrainedModel, delta: Delta) -> None:
    for name, change in delta.matrices.items():
        dense = change.dense()
        model.get_parameter(name).data += dense.T if change.transposed else dense


def test_there_is_a_case_for_every_method() -> None:
    assert VALUES.keys() == METHODS.keys()


@pytest.mark.parametrize("family", ["gpt2", "gptj", "llama", "neox", "opt", "qwen3"])
@pytest.mark.parametrize("name", sorted(METHODS))
def test_targets_become_likely(
    build_model: BuildModel,
    tokenizer: PreTrainedTokenizerFast,
    collected: Collect,
    name: str,
    family: str,
) -> None:
    model = build_model(family).eval()
    delta = _compute(name, model, tokenizer, [PARIS], collected(model))
    assert delta.method == name
    (report,) = delta.diagnostics["edits"]
    assert report["probability_after"] != report["probability_before"]
    if "probability_reached" in report:
        assert report["probability_reached"] > 1.5 * report["probability_before"]
    assert 0 <= report["greedy_after"] <= 1
    assert delta.diagnostics["drift"]["max"] >= delta.diagnostics["drift"]["mean"] > 0
    assert delta.diagnostics["relative_norm"].keys() == delta.matrices.keys()
    targets = [projection(model, layer) for layer in _hparams(METHODS[name]).layers]
    units = name in ("t-patcher", "calinet")
    names = [mlp(model, t.layer).name if units else t.name for t in targets]
    # KN writes the layers in which it finds neurons.
    assert [n for n in names if n in delta.changes] == list(delta.changes)
    assert len(delta.changes) == len(names) or name == "kn"
    assert all(c.transposed == (family == "gpt2") for c in delta.matrices.values())
    # The diagnostics are those of the model that the delta makes.
    with applied(model, [delta]):
        again = _compute(name, model, tokenizer, [PARIS], collected(model), steps=1)
    (now,) = again.diagnostics["edits"]
    assert now["probability_before"] == pytest.approx(report["probability_after"], rel=0.02)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", sorted(METHODS))
def test_the_model_is_left_as_it_was_found(
    build_model: BuildModel,
    tokenizer: PreTrainedTokenizerFast,
    collected: Collect,
    name: str,
    dtype: torch.dtype,
) -> None:
    model = build_model("gpt2", dtype)
    model.train()
    layers(model)[0].eval()
    model.get_parameter("transformer.wte.weight").requires_grad_(False)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    grads = {key: p.requires_grad for key, p in model.named_parameters()}
    modes = {key: module.training for key, module in model.named_modules()}
    delta = _compute(name, model, tokenizer, [PARIS, BERG], collected(model))
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert {key: p.requires_grad for key, p in model.named_parameters()} == grads
    assert {key: module.training for key, module in model.named_modules()} == modes
    assert all(p.grad is None for p in model.parameters())
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert "forward" not in module.__dict__
    for change in delta.changes.values():
        assert all(part.dtype == torch.float32 for part in change.parts().values())


@pytest.mark.parametrize("name", sorted(METHODS))
def test_no_edits_give_a_delta_that_changes_nothing(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast, collected: Collect, name: str
) -> None:
    delta = _compute(name, build_model("llama"), tokenizer, [], collected(build_model("llama")))
    assert not delta.changes
    assert not delta.edits


@pytest.mark.parametrize("name", BATCH)
def test_two_edits_of_one_fact_are_refused(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast, collected: Collect, name: str
) -> None:
    other = dataclasses.replace(PARIS, prompt="The  capital of France is ", target_new="Oslo")
    model = build_model("llama")
    with pytest.raises(ConflictingEdits, match="same fact"):
        _compute(name, model, tokenizer, [PARIS, BERG, other], collected(model))


@pytest.mark.parametrize("name", SPREADING)
def test_the_order_of_edits_does_not_matter(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast, collected: Collect, name: str
) -> None:
    model = build_model("llama").eval()
    statistics = collected(model)
    one = _compute(name, model, tokenizer, [PARIS, BERG, WORK], statistics)
    other = _compute(name, model, tokenizer, [WORK, PARIS, BERG], statistics)
    for key, change in one.changes.items():
        difference = change.dense() - other.changes[key].dense()
        assert float(difference.norm() / change.dense().norm()) < 1e-3
    reports, other_reports = (delta.diagnostics["edits"] for delta in (one, other))
    for i, j in ((0, 1), (1, 2), (2, 0)):
        assert reports[i]["probability_after"] == pytest.approx(
            other_reports[j]["probability_after"], rel=0.01
        )


@pytest.mark.parametrize(("keys", "each"), [("both", 2), ("averaged", 1)])
@pytest.mark.parametrize("share_subjects", [True, False])
def test_a_subject_with_several_edits_gets_one_value_or_several(
    build_model: BuildModel,
    tokenizer: PreTrainedTokenizerFast,
    collected: Collect,
    share_subjects: bool,
    keys: str,
    each: int,
) -> None:
    model = build_model("llama").eval()
    delta = _compute(
        "memit", model, tokenizer, [BERG, PARIS, WORK], collected(model),
        share_subjects=share_subjects, keys=keys,
    )  # fmt: skip
    ranks = {change.rank for change in delta.changes.values() if isinstance(change, LowRank)}
    assert ranks == {each * (2 if share_subjects else 3)}
    shared = [report["probability_after"] for report in delta.diagnostics["edits"]]
    before = [report["probability_before"] for report in delta.diagnostics["edits"]]
    assert math.prod(shared) > math.prod(before)


@pytest.mark.parametrize(("keys", "mean"), [("both", Problem.apart), ("averaged", Problem.average)])
@pytest.mark.parametrize(("name", "power"), [("memit", 1.0), ("pmet", 0.5)])
def test_layers_take_their_shares_of_what_is_missing(
    build_model: BuildModel,
    tokenizer: PreTrainedTokenizerFast,
    collected: Collect,
    name: str,
    power: float,
    keys: str,
    mean: Mean,
) -> None:
    """The whole of the spreading, redone with dense float64 matrices and plain inverses."""
    model = build_model("llama").eval()
    statistics = collected(model)
    hparams = _hparams(METHODS[name])
    delta = _compute(name, model, tokenizer, [PARIS, BERG], statistics, keys=keys)
    targets = {layer: projection(model, layer) for layer in (0, 1)}
    block = layers(model)[1]
    modules = (block.self_attn.o_proj, block.mlp.down_proj) if name == "pmet" else (block,)
    work = plan_workload(
        model, tokenizer, [PARIS, BERG], CONTEXTS, hparams, share_subjects=True, bare_share=0.5
    )
    with hooks.frozen(model), hooks.restored([t.weight for t in targets.values()]):
        values = compute_z(model, Site(1, modules), work, hparams)
        last = {0: modules[-1]}
        goal = keys_and_states(model, {}, last, work.problems, mean=mean)[1][0] + values.delta[-1]
        for left, (layer, target) in zip((2, 1), targets.items(), strict=True):
            found_keys, state = keys_and_states(
                model, {layer: target}, last, work.problems, mean=mean
            )
            k = found_keys[layer].flatten(0, 1).T.double()
            r = (goal - state[0]).flatten(0, 1).T.double() / left**power
            c = hparams.covariance_weight * statistics.moments[layer].double()
            update = r @ k.T @ torch.linalg.inv(c + k @ k.T)
            found = delta.changes[target.name].dense().double()
            assert float((found - update).norm() / update.norm()) < 1e-4
            target.write(target.matrix() + update.float())


# What is added to a projection's output is normed or scaled before it is in the residual stream.
BETWEEN = ["gemma2", "gemma3", "granite", "olmo2"]


@pytest.mark.parametrize("family", BETWEEN)
@pytest.mark.parametrize("name", SPREADING)
def test_what_was_optimised_is_what_is_written(
    build_model: BuildModel,
    tokenizer: PreTrainedTokenizerFast,
    collected: Collect,
    name: str,
    family: str,
) -> None:
    """With next to nothing to weigh it against, an update meets the value of each layer."""
    model, method = build_model(family).eval(), METHODS[name]
    exact = {"alphaedit": {"null_share": 1.0, "ridge": 1e-9}, "emmet": {"ridge": 0.0}}
    hparams = _hparams(method, layers=(0, 1), **exact.get(name, {"covariance_weight": 1e-9}))
    targets = {layer: projection(model, layer) for layer in (0, 1)}
    values: dict[tuple[Edit, ...], TargetValues] = {}
    delta = method.compute(
        model, tokenizer, [PARIS, BERG], hparams, collected(model), contexts=[Context()],
        value_cache=values,
    )  # fmt: skip
    for report in delta.diagnostics["edits"]:
        assert report["probability_reached"] > 1.5 * report["probability_before"]
    work = plan_workload(model, tokenizer, [PARIS, BERG], [Context()], hparams)
    joined = TargetValues.joined(list(values.values()))
    aims = own_aims(model, targets, work, joined, Problem.average)
    _apply(model, delta)
    modules = {layer: target.module for layer, target in targets.items()}
    for layer, state in keys_and_states(model, {}, modules, work.problems)[1].items():
        assert torch.allclose(state, aims[layer].value, rtol=1e-3, atol=1e-3)


def test_values_do_not_depend_on_the_company(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = build_model("llama").eval()
    hparams = _hparams(METHODS["memit"], kept_samples=3)
    site = Site(1, (layers(model)[1],))
    edits = [PARIS, BERG, Edit("Novatech is based in", "Novatech", "Paris")]
    with hooks.frozen(model):
        together = plan_workload(model, tokenizer, edits, CONTEXTS, hparams)
        alone = override(hparams, {"pass_tokens": 1})
        apart = plan_workload(model, tokenizer, edits, CONTEXTS, alone)
        assert (len(together.problems), len(apart.problems)) == (1, 3)
        one, other = (compute_z(model, site, work, hparams) for work in (together, apart))
    assert torch.allclose(one.delta, other.delta, rtol=1e-4, atol=1e-4)
    assert torch.equal(one.steps, other.steps)


@pytest.mark.parametrize("name", [name for name, m in METHODS.items() if m.values])
def test_values_that_are_known_are_not_sought_again(
    build_model: BuildModel,
    tokenizer: PreTrainedTokenizerFast,
    collected: Collect,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    model, statistics = build_model("llama").eval(), collected(build_model("llama").eval())
    method, hparams = METHODS[name], _hparams(METHODS[name])
    cache: dict[tuple[Edit, ...], Any] = {}
    sought: list[int] = []

    def counting(model: Any, site: Any, problem: Any, hp: Any) -> TargetValues:
        sought.append(len(problem.edit_groups))
        return optimise_delta(model, site, problem, hp)

    monkeypatch.setattr("weight_patchers.values.workload.optimise_delta", counting)

    def compute(*edits: Edit, **more: Any) -> Delta:
        given = {"contexts": CONTEXTS, "controls": ["Anna lives in"], **more}
        return method.compute(model, tokenizer, list(edits), hparams, statistics, **given)

    first = compute(PARIS, BERG, WORK, value_cache=cache)
    again = compute(BERG, PARIS, WORK, value_cache=cache)
    assert sought == [3]
    for key, change in first.changes.items():
        expected = change.dense()
        assert float((again.changes[key].dense() - expected).norm() / expected.norm()) < 1e-3
    added = Edit("Novatech is based in", "Novatech", "Paris")
    without = compute(PARIS, added, value_cache=cache)
    assert sought == [3, 1]
    assert sorted(group[0].subject for group in cache) == ["France", "Novatech"]
    for key, change in compute(PARIS, added).changes.items():
        expected = change.dense()
        assert float((without.changes[key].dense() - expected).norm() / expected.norm()) < 1e-3


@pytest.mark.parametrize("name", [name for name, m in METHODS.items() if m.compute_each])
def test_each_edit_alone_gets_the_delta_of_a_call_of_its_own(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast, collected: Collect, name: str
) -> None:
    model, statistics = build_model("llama").eval(), collected(build_model("llama").eval())
    before = {key: value.clone() for key, value in model.state_dict().items()}
    method, edits = METHODS[name], [PARIS, BERG, dataclasses.replace(PARIS, target_new="Oslo")]
    assert method.compute_each is not None
    known = method.hparams.__dataclass_fields__
    hparams = _hparams(method, **({"kept_samples": 2} if "kept_samples" in known else {}))
    given: dict[str, Any] = {"contexts": CONTEXTS, "controls": ["Anna lives in"]}
    given |= trained_for(method, hparams, model, tokenizer)
    found = method.compute_each(model, tokenizer, edits, hparams, statistics, **given)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    for edit, delta in zip(edits, found, strict=True):
        alone = method.compute(model, tokenizer, [edit], hparams, statistics, **given)
        assert delta.edits == (edit,)
        assert delta.changes.keys() == alone.changes.keys()
        assert delta.keys.keys() == alone.keys.keys()
        for key, change in delta.changes.items():
            expected = alone.changes[key].dense()
            assert float((change.dense() - expected).norm() / expected.norm()) < 1e-3
        diagnostics, expected_diagnostics = delta.diagnostics, alone.diagnostics
        assert diagnostics.keys() == expected_diagnostics.keys()
        assert diagnostics["drift"]["mean"] == pytest.approx(
            expected_diagnostics["drift"]["mean"], rel=0.01
        )
        assert diagnostics["edits"][0].keys() == expected_diagnostics["edits"][0].keys()
    assert method.compute_each(model, tokenizer, [], hparams, statistics) == []


def test_an_early_stop_is_each_edits_own(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = build_model("llama").eval()
    hparams = _hparams(METHODS["memit"], steps=60, stop_probability=0.002)
    with hooks.frozen(model):
        work = plan_workload(model, tokenizer, [PARIS, BERG], CONTEXTS, hparams)
        values = compute_z(model, Site(1, (layers(model)[1],)), work, hparams)
    assert len(set(values.steps.tolist())) == 2
    assert bool((values.reached >= 0.002).all())
    assert int(values.steps.max()) < 60


def test_a_target_that_was_first_for_two_steps_is_not_sought_further(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = build_model("llama").eval()
    long = _hparams(METHODS["memit"], steps=60, stop_probability=1.0, step=0.2)
    site = Site(1, (layers(model)[1],))
    edits = [Edit("Lima and France", "France", "is"), Edit("In Anna Berg", "Anna Berg", "works")]

    def firsts(steps: int) -> list[bool]:
        """For each edit, whether its target is first in every context after so many steps."""
        found = []
        with hooks.frozen(model):
            for edit in edits:
                hp = override(long, {"steps": steps})
                work = plan_workload(model, tokenizer, [edit], CONTEXTS, hp)
                (problem,) = work.problems
                values = compute_z(model, site, work, hp).delta[0][problem.owners]
                with hooks.added(site.modules[0], problem.subjects, values):
                    found.append(bool((target_outcome(model, problem)[1] == 1).all()))
        return found

    with hooks.frozen(model):
        work = plan_workload(model, tokenizer, edits, CONTEXTS, long)
        stopped = {
            n: compute_z(model, site, work, override(long, {"stop_first": n})).steps.tolist()
            for n in (1, 2)
        }
        assert compute_z(model, site, work, long).steps.tolist() == [60, 60]
    assert [two - one for one, two in zip(stopped[1], stopped[2], strict=True)] == [1, 1]
    for edit, steps in enumerate(stopped[1]):
        assert 1 < steps < 59
        assert [firsts(n)[edit] for n in (steps - 1, steps)] == [False, True]


def test_alphaedit_spares_the_keys_of_live_edits_and_forgets_them_with_their_delta(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast, collected: Collect
) -> None:
    model = build_model("llama").eval()
    statistics = collected(model)
    values: dict[str, Any] = {"layers": (1,), "null_share": 1.0, "ridge": 1e-6}
    first = _compute("alphaedit", model, tokenizer, [PARIS], statistics, **values)
    name = projection(model, 1).name
    assert first.keys[name].shape == (48, 2)
    _apply(model, first)
    blind = _compute("alphaedit", model, tokenizer, [BERG], statistics, **values)
    aware = _compute("alphaedit", model, tokenizer, [BERG], statistics, (first,), **values)
    for key in first.keys[name].T:
        moved = [float((d.changes[name].dense() @ key).norm()) for d in (blind, aware)]
        assert moved[1] < 0.05 * moved[0]
    assert aware.diagnostics["layers"]["1"]["past_keys"] == 2
    again = _compute("alphaedit", model, tokenizer, [WORK], statistics, (aware,), **values)
    assert again.diagnostics["layers"]["1"]["past_keys"] == 0


@pytest.mark.parametrize("name", ["alphaedit", "memit"])
def test_a_later_edit_of_a_subject_also_seeks_what_is_live_about_it(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast, collected: Collect, name: str
) -> None:
    model = build_model("llama").eval()
    statistics = collected(model)
    together = _compute(name, model, tokenizer, [WORK, BERG], statistics)
    first = _compute(name, model, tokenizer, [BERG], statistics)
    old = dataclasses.replace(first, edits=(dataclasses.replace(WORK, target_new="Lima"), BERG))
    old = dataclasses.replace(
        old, keys={key: k.repeat_interleave(2, dim=1) for key, k in first.keys.items()}
    )
    _apply(model, first)
    given = {"live_subjects": True, "base_values": True}
    later = _compute(name, model, tokenizer, [WORK], statistics, (old,), **given)
    # The same value as both at once; WORK itself replaces what was live about its fact.
    assert later.edits == (WORK,)
    assert all(keys.shape[1] == 2 for keys in later.keys.values())
    reports = later.diagnostics["edits"], together.diagnostics["edits"][:1]
    assert len(reports[0]) == 1
    for column in ("steps", "delta_norm", "probability_before", "probability_reached"):
        assert reports[0][0][column] == pytest.approx(reports[1][0][column], rel=1e-3)
    lengths = [d.diagnostics["layers"]["1"]["value_length"] for d in (later, together)]
    assert lengths[0] == pytest.approx(lengths[1], rel=1e-3)


def test_values_from_the_base_do_not_depend_on_what_is_live(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast, collected: Collect
) -> None:
    model = build_model("llama").eval()
    statistics = collected(model)
    alone = _compute("memit", model, tokenizer, [PARIS], statistics, base_values=True)
    live = _compute("memit", model, tokenizer, [BERG], statistics)
    _apply(model, live)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    below = _compute("memit", model, tokenizer, [PARIS], statistics, (live,), base_values=True)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    (one,), (other,) = alone.diagnostics["edits"], below.diagnostics["edits"]
    for column in ("steps", "delta_norm", "probability_before", "probability_reached"):
        assert one[column] == pytest.approx(other[column], rel=1e-3)
    lengths = [d.diagnostics["layers"]["1"]["value_length"] for d in (alone, below)]
    assert lengths[0] == pytest.approx(lengths[1], rel=1e-3)
    method, hparams = METHODS["memit"], _hparams(METHODS["memit"], base_values=True)
    (each,) = method.compute_each(  # type: ignore[misc]
        model, tokenizer, [PARIS], hparams, statistics, contexts=CONTEXTS, live=(live,)
    )
    for key, change in below.changes.items():
        assert torch.equal(each.changes[key].dense(), change.dense())


def test_values_have_the_anchors_length(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast, collected: Collect
) -> None:
    model = build_model("llama").eval()
    delta = _compute("memit", model, tokenizer, [PARIS], collected(model), value_length=7.0)
    assert delta.diagnostics["layers"]["1"]["value_length"] == pytest.approx(7.0)


def test_the_bound_of_ft_l_holds(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast, collected: Collect
) -> None:
    model = build_model("llama").eval()
    bound, free = (
        _compute(name, model, tokenizer, [PARIS], collected(model)) for name in ("ft-l", "ft-m")
    )
    largest = [
        max(float(change.dense().abs().max()) for change in delta.changes.values())
        for delta in (bound, free)
    ]
    assert largest[0] <= 0.05 + 1e-7 < largest[1]


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_broken_model_is_an_error(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast, collected: Collect, name: str
) -> None:
    model = build_model("llama").eval()
    statistics = collected(model)
    model.get_parameter("model.layers.2.mlp.down_proj.weight").data.fill_(torch.nan)
    with pytest.raises(PatcherError, match=r"not finite|diverged"):
        _compute(name, model, tokenizer, [PARIS], statistics)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_hyperparameters_are_found_for_every_model(build_model: BuildModel, name: str) -> None:
    method = METHODS[name]
    found = find(method.hparams, name, build_model("gptj").config)
    assert all(0 <= layer < 3 for layer in found.layers)
    assert isinstance(found.covariance, bool)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("memit", {"layers": ()}),
        ("memit", {"layers": (2, 1)}),
        ("memit", {"covariance_weight": 0.0}),
        ("memit", {"stop_first": 0}),
        ("memit", {"ridge": -1.0}),
        ("memit", {"value_length": 0.0}),
        ("alphaedit", {"covariance_weight": -1.0}),
        ("alphaedit", {"past_weight": -1.0}),
        ("emmet", {"ridge": -1.0}),
        ("alphaedit", {"null_share": None}),
        ("alphaedit", {"null_threshold": 0.02}),
        ("rome", {"keys": "all"}),
        ("ft-l", {"norm_bound": 0.0}),
        ("ft-l", {"end": "never"}),
        ("ft-bf", {"spared": 1.0}),
        ("ft-bf", {"layers": ()}),
        ("t-patcher", {"gain": 0.0}),
        ("t-patcher", {"smoothing": 1.0}),
        ("t-patcher", {"memory_texts": 0}),
        ("calinet", {"slots": 0}),
        ("calinet", {"keep": -1.0}),
        ("calinet", {"memory_length": 1}),
        ("mend", {"layers": ()}),
        ("mend", {"steps": 0}),
        ("mend", {"scale": 0.0}),
        ("mend", {"blocks": 0}),
        ("ke", {"inner": 0}),
        ("ke", {"largest": 0.0}),
    ],
)
def test_hyperparameters_out_of_range_are_refused(name: str, values: dict[str, Any]) -> None:
    with pytest.raises(InvalidHyperparameters, match=next(iter(values))):
        _hparams(METHODS[name], **values)
