import pytest
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from weight_patchers.doctor.fact import KnownFact, state
from weight_patchers.errors import InvalidEdit, UnsupportedTokenizer


def test_a_fact_becomes_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    statement = state(tokenizer, KnownFact("The capital of Anna Berg is ", "Anna Berg", " Paris "))
    decoded = [tokenizer.decode([token]) for token in statement.ids]
    subject = decoded[statement.subject_first : statement.subject_last + 1]
    assert "".join(subject).strip() == "Anna Berg"
    assert statement.subject_last > statement.subject_first > 0
    assert "".join(decoded[: statement.prompt_last + 1]) == "<s>The capital of Anna Berg is"
    assert tokenizer.decode(list(statement.answer)) == " Paris"
    assert statement.ids[statement.prompt_last + 1 :] == statement.answer[:-1]


def test_of_two_occurrences_the_last_counts(tokenizer: PreTrainedTokenizerFast) -> None:
    statement = state(tokenizer, KnownFact("Oslo is Oslo in Peru", "Oslo", "Lima"))
    decoded = [tokenizer.decode([token]) for token in statement.ids]
    assert "".join(decoded[statement.subject_first : statement.subject_last + 1]).strip() == "Oslo"
    assert "".join(decoded[: statement.subject_first]).strip() == "<s>Oslo is"


def test_a_subject_that_shares_tokens_with_its_neighbours(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    statement = state(tokenizer, KnownFact("NovatechParis is in", "Novatech", "Lima"))
    decoded = [tokenizer.decode([token]) for token in statement.ids]
    assert "".join(decoded[statement.subject_first : statement.subject_last + 1]).startswith(
        "Novatech"
    )


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ((" ", "Oslo", "Lima"), "prompt is empty"),
        (("Oslo is", "", "Lima"), "subject is empty"),
        (("Oslo is", "Oslo", " "), "answer is empty"),
        (("Oslo is", "Peru", "Lima"), "does not contain the subject 'Peru'"),
    ],
)
def test_a_fact_that_says_nothing_is_refused(values: tuple[str, str, str], reason: str) -> None:
    with pytest.raises(InvalidEdit, match=reason):
        KnownFact(*values)


def test_a_tokenizer_without_offsets_is_refused() -> None:
    with pytest.raises(UnsupportedTokenizer, match="offsets"):
        state(ByT5Tokenizer(), KnownFact("Oslo is", "Oslo", "Lima"))
