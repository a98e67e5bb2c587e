"""The training loop, on a random model: what it lowers, keeps, resumes and leaves alone."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from weight_patchers import METHODS, Edit
from weight_patchers.errors import InvalidHyperparameters
from weight_patchers.hyperparameters import build
from weight_patchers.trained.training.examples import (
    QuestionBuilder,
    TrainingEdit,
    without_each_other,
)
from weight_patchers.trained.training.objective import Constrained
from weight_patchers.trained.training.outcome import Validation
from weight_patchers.trained.training.recipe import Recipe
from weight_patchers.trained.training.trainer import Training, TrainingData

BuildModel = Callable[..., PreTrainedModel]
HPARAMS: dict[str, dict[str, Any]] = {
    "mend": {"layers": (0, 1), "rank": 8, "chat": False, "step": 3e-3},
    "ke": {"layers": (0, 1), "hidden": 8, "condition": 8, "inner": 8, "chat": False},
}
RECIPES: dict[str, dict[str, Any]] = {
    "mend": {"rate": 1e-3, "edit_weight": 1.0, "together": 2},
    "ke": {"rate": 1e-3, "optimizer": "rmsprop", "loss": "constrained", "smoothing": 0.1},
}
COMMON = {"steps": 6, "batch": 4, "kept": 2, "validate_every": 3, "validation_edits": 4}
PLACES = ("Oslo", "Lima", "Paris")


def draw(rng: random.Random) -> TrainingEdit:
    """An edit of a capital, asked in two wordings, beside the others."""
    country = rng.choice(["France", "Peru", "Novatech"])
    return TrainingEdit(
        Edit(f"The capital of {country} is", country, rng.choice(PLACES)),
        (f"{country} has the capital",),
        (("Anna Berg was born in", "Oslo"), ("Anna Berg works for", "Novatech")),
    )


DATA = TrainingData(draw, [draw(random.Random(number)) for number in range(4)])


@pytest.fixture(params=sorted(HPARAMS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def training(
    name: str, build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> Callable[..., Training]:
    """A function that sets up a run from the beginning."""
    model, method = build_model("llama").eval(), METHODS[name]

    def begin(state: Path | None = None, **values: object) -> Training:
        assert method.editor is not None
        hparams = build(method.hparams, HPARAMS[name])
        editor = method.editor.untrained(hparams, model, seed=0)
        recipe = build(Recipe, COMMON | RECIPES[name] | values)
        return Training(model, tokenizer, editor, recipe, DATA, seed=1, state=state)

    return begin


def test_training_lowers_the_loss_and_leaves_the_base(training: Callable[..., Training]) -> None:
    run = training(steps=24, validate_every=8)
    before = {key: value.clone() for key, value in run.model.state_dict().items()}
    run.run()
    losses = [one.nll for one in run.history]
    assert min(losses[1:]) < losses[0]
    assert all(torch.equal(value, before[key]) for key, value in run.model.state_dict().items())
    assert not any(module._forward_hooks for module in run.model.modules())
    assert all(p.requires_grad for p in run.model.parameters())
    best = min(run.history, key=lambda one: one.loss)
    assert run.validate(best.step).nll == pytest.approx(best.nll, rel=1e-4)


def test_a_resumed_run_is_an_uninterrupted_one(
    training: Callable[..., Training], tmp_path: Path
) -> None:
    whole = training()
    assert whole.run() == 6
    state = tmp_path / "state"

    class Interrupted(Exception):
        pass

    def stop(done: int, _total: int) -> None:
        if done == 4:
            raise Interrupted

    first = training(state)
    first.save_seconds = -1.0
    with pytest.raises(Interrupted):
        first.run(progress=stop)
    second = training(state)
    seen: list[Validation] = []
    assert second.run(watch=seen.append) == 6
    assert [one.step for one in seen] == [6]
    assert second.history == whole.history
    for key, value in whole.editor.state_dict().items():
        assert torch.equal(value, second.editor.state_dict()[key])


def test_a_state_of_another_run_is_not_resumed(
    training: Callable[..., Training], tmp_path: Path
) -> None:
    state = tmp_path / "state"
    first = training(state)
    first.run(seconds=0.0)
    assert state.exists()
    other = training(state, rate=2e-3)
    other.run()
    assert [one.step for one in other.history] == [3, 6]


def test_training_ends_without_patience(training: Callable[..., Training]) -> None:
    run = training(steps=50, validate_every=1, patience=2, rate=1e-12)
    assert run.run() < 50


def test_the_multiplier_ascends_and_the_margin_shrinks_with_success() -> None:
    constrained = Constrained(margin=1e-3, least_margin=1e-5, rate=0.1)
    nll, kl = torch.tensor(2.0), torch.tensor(0.5)
    assert float(constrained.loss(nll, kl)) == pytest.approx(2.0 + 1.0 * (0.5 - 1e-3))
    constrained.after_step(0.5)
    assert constrained.multiplier == pytest.approx(1.0 + 0.1 * (0.5 - 1e-3))
    constrained.after_validation(0.9)
    assert constrained.margin == 1e-3
    for _ in range(50):
        constrained.after_validation(0.91)
    assert constrained.margin == 1e-5
    constrained.multiplier = 0.0
    constrained.after_step(0.0)
    assert constrained.multiplier == 0.0


def test_questions_are_answered_where_their_answers_are(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    edit = TrainingEdit(
        Edit("The capital of Peru is", "Peru", "Oslo"),
        ("Peru has the capital",),
        (("Anna Berg was born in", "Lima"),),
    )
    builder = QuestionBuilder(tokenizer, rephrasings=3, kept=3, end=".")
    rng = random.Random(0)
    questions = builder.build([edit, edit], rng, torch.device("cpu"))
    assert questions.owners.tolist() == [0, 0, 1, 1, 0, 1]
    texts = [
        tokenizer.decode([*questions.batch.ids[row, : column + 1].tolist(), token])
        for token, row, column in zip(
            questions.tokens.tolist(), questions.rows.tolist(), questions.columns.tolist(),
            strict=True,
        )
    ]  # fmt: skip
    assert "<s>The capital of Peru is Oslo." in texts
    assert "<s>Peru has the capital Oslo." in texts
    assert "<s>Anna Berg was born in Lima." in texts
    assert questions.own[questions.rows == 0].all()
    assert questions.kept.tolist() == (questions.rows >= 4).tolist()
    batch, rows, _ = questions.only_kept()
    assert len(batch.ids) == 2
    assert set(rows.tolist()) == {0, 1}


def test_what_one_edit_keeps_is_not_what_another_changes() -> None:
    peru = Edit("The capital of Peru is", "Peru", "Oslo")
    kept = (("The capital of Peru is", "Lima"), ("Anna lives in", "Oslo"))
    other = TrainingEdit(Edit("The capital of France is", "France", "Oslo"), (), kept)
    both = [TrainingEdit(peru, (), kept), other]
    assert [edit.kept for edit in without_each_other(both, 2)] == [kept, kept[1:]]
    assert without_each_other(both, 1) == both


@pytest.mark.parametrize(
    "values",
    [{"steps": 0}, {"batch": 3, "together": 2}, {"optimizer": "sgd"}, {"loss": "none"},
     {"rate": 0.0}, {"decay": 2.0}, {"clip": 0.0}, {"smoothing": 1.0},
     {"least_margin": 1.0}, {"patience": 0}],
)  # fmt: skip
def test_recipes_out_of_range_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidHyperparameters):
        build(Recipe, {"steps": 1, "batch": 4, **values})


def test_the_learning_rate_rises_stays_and_falls() -> None:
    recipe = Recipe(steps=100, batch=1, warm_up=10, decay=0.2)
    assert [recipe.factor(step) for step in (0, 9, 50, 80, 90)] == [0.1, 1.0, 1.0, 1.0, 0.5]
