from string import ascii_letters

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizer, PreTrainedTokenizerFast

from weight_patchers.errors import InvalidEdit, UnsupportedTokenizer
from weight_patchers.model.tokenization import encode, locate, target_ids


def _decoded(tokenizer: PreTrainedTokenizerFast, text: str, subject: str) -> str:
    """What the model has read up to and with the subject's last token."""
    found = locate(tokenizer, text, subject)
    return tokenizer.decode(found.ids[: found.subject + 1], skip_special_tokens=True)


@pytest.mark.parametrize(
    ("text", "subject", "read"),
    [
        ("Anna Berg was born in", "Anna Berg", "Anna Berg"),
        ("Born in Oslo: Anna Berg", "Anna Berg", "Born in Oslo: Anna Berg"),
        ("Anna knows Bert, and Anna likes", "Anna", "Anna knows Bert, and Anna"),
        ("Anna and Annabel and Joanna like", "Anna", "Anna"),
        ("Annabel likes", "Anna", "Anna"),
        ("The wife of Zoë is", "Zoë", "The wife of Zoë"),
        ("首都は東京です", "東京", "首都は東京"),
        ("🙂 Bob 🙂 is", "Bob 🙂", "🙂 Bob 🙂"),
        ("C++ was made by", "C++", "C++"),
    ],
)
def test_the_subjects_last_token(
    tokenizer: PreTrainedTokenizerFast, text: str, subject: str, read: str
) -> None:
    assert _decoded(tokenizer, text, subject).startswith(read)
    found = locate(tokenizer, text, subject)
    before = tokenizer.decode(found.ids[: found.subject], skip_special_tokens=True)
    assert not before.startswith(read)


WORDS = st.text(alphabet=ascii_letters + "äöé'-. 東京🙂", min_size=1, max_size=12)


@settings(deadline=None)
@given(before=WORDS, subject=WORDS.filter(lambda s: s.strip() == s and s != ""), after=WORDS)
def test_the_last_token_ends_the_subject_wherever_it_stands(
    tokenizer: PreTrainedTokenizerFast, before: str, subject: str, after: str
) -> None:
    text = f"{before} {subject} {after}"
    found = locate(tokenizer, text, subject, start=len(before) + 1)
    upto = tokenizer.decode(found.ids[: found.subject + 1], skip_special_tokens=True)
    previous = tokenizer.decode(found.ids[: found.subject], skip_special_tokens=True)
    ends = [
        i + len(subject) for i in range(len(before) + 1, len(text)) if text.startswith(subject, i)
    ]
    assert any(len(previous.rstrip("\N{REPLACEMENT CHARACTER}")) < e <= len(upto) for e in ends)


def test_the_search_starts_after_the_context(tokenizer: PreTrainedTokenizerFast) -> None:
    context = "Oslo is big. "
    found = locate(tokenizer, context + "In Oslo they speak", "Oslo", start=len(context))
    read = tokenizer.decode(found.ids[: found.subject + 1], skip_special_tokens=True)
    assert read == "Oslo is big. In Oslo"
    with pytest.raises(InvalidEdit, match="does not contain"):
        locate(tokenizer, context + "they speak", "Oslo", start=len(context))


def test_a_normalizer_that_prepends_a_blank_does_not_shift_the_subject() -> None:
    raw = Tokenizer(models.WordLevel({"▁": 0, "Anna": 1, "Berg": 2, "sings": 3, "?": 4}, "?"))
    raw.normalizer = normalizers.Prepend(" ")
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw)
    assert locate(tokenizer, "Anna Berg sings", "Anna Berg").subject == 1


@settings(deadline=None)
@given(target=st.lists(st.sampled_from(["Oslo", "Lima", "Novatech", "Zoë"]), min_size=1))
def test_prompt_and_target_tokens_make_up_the_text(
    tokenizer: PreTrainedTokenizerFast, target: list[str]
) -> None:
    prompt = "Anna Berg works for"
    ids, _ = encode(tokenizer, prompt)
    whole = [*ids, *target_ids(tokenizer, prompt, " ".join(target))]
    assert whole == encode(tokenizer, f"{prompt} {' '.join(target)}")[0]


def test_a_slow_tokenizer_is_refused() -> None:
    class Slow(PreTrainedTokenizer):  # type: ignore[misc]
        @property
        def vocab_size(self) -> int:
            return 1

        def get_vocab(self) -> dict[str, int]:
            return {"a": 0}

    with pytest.raises(UnsupportedTokenizer, match="fast tokenizer"):
        encode(Slow(), "a")
