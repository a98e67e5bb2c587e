"""Edits share a pass as far as the bound on its tokens allows."""

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tests.weight_patchers.conftest import BuildModel
from weight_patchers import Context, Edit
from weight_patchers.values.hparams import ValueHparams
from weight_patchers.values.passes import RowSizes, pass_tokens, split_by_size
from weight_patchers.values.problem import build_problem, kept_texts

CONTEXTS = (Context(), Context("Anna lives in Oslo. "))
HPARAMS = ValueHparams(kept_samples=2, kept_length=4)
GROUPS = [
    [Edit("Anna Berg was born in", "Anna Berg", "Paris")],
    [Edit("The birthplace of Anna is", "Anna", "Oslo"), Edit("Anna lives in", "Anna", "Rome")],
    [Edit("Berg was born in", "Berg", "Oslo")],
]


def posed(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, groups: list[list[Edit]]
) -> tuple[int, int, int]:
    """Rows, and the lengths before and from the subject's last token, as they come to be."""
    kept = kept_texts(model, tokenizer, [group[0].subject for group in groups], HPARAMS)
    problem = build_problem(tokenizer, groups, CONTEXTS, kept, model.device)
    after = problem.from_subjects().batch.ids.shape
    return after[0], int(problem.subjects.max()), after[1]


def test_the_measure_is_no_less_than_what_is_posed(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = build_model("llama").eval()
    measure = RowSizes.of(tokenizer, CONTEXTS, HPARAMS)
    for group in GROUPS:
        rows, head, tail = posed(model, tokenizer, [group])
        assert measure.rows(group) == rows
        assert measure.lengths(group)[0] >= head
        assert measure.lengths(group)[1] >= tail


def test_pieces_are_as_large_as_fits(tokenizer: PreTrainedTokenizerFast) -> None:
    measure = RowSizes.of(tokenizer, CONTEXTS, HPARAMS)
    assert list(split_by_size(GROUPS, measure, 1)) == [[group] for group in GROUPS]
    assert list(split_by_size(GROUPS, measure, 10**6)) == [GROUPS]
    head, tail = (max(sizes) for sizes in zip(*map(measure.lengths, GROUPS[:2]), strict=True))
    two = measure.tokens(sum(map(measure.rows, GROUPS[:2])), head, tail)
    assert list(split_by_size(GROUPS, measure, int(two) + 1)) == [GROUPS[:2], GROUPS[2:]]


def test_tokens_before_the_subject_are_cheap_where_they_are_read_once(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    values, tuning = RowSizes.of(tokenizer, CONTEXTS, HPARAMS), RowSizes.of(tokenizer, CONTEXTS)
    assert values.tokens(2, 8, 3) == 8
    assert tuning.tokens(2, 8, 3) == 22


def test_a_pass_grows_with_the_model(build_model: BuildModel) -> None:
    model = build_model("llama")
    held = pass_tokens(model)
    assert 3 * (6 * 32 + 3 * 48) * 4 * held <= 256 << 20
    assert pass_tokens(model.half()) == 2 * held
