"""Finds the subject's last token in a prompt, and the target's tokens."""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from weight_patchers.continuation import continue_with
from weight_patchers.errors import InvalidEdit, UnsupportedTokenizer
from weight_patchers.word_border import whole_places


@dataclass(frozen=True)
class Tokens:
    """Token ids of a text, special tokens included, and the index of the subject's last token."""

    ids: tuple[int, ...]
    subject: int


def locate(
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    subject: str,
    start: int = 0,
    stop: int | None = None,
) -> Tokens:
    """Tokenize `text` and find the last token of `subject` in `text[start:stop]`.

    If the subject occurs more than once, the last occurrence that is not inside a longer word
    counts, or else the very last. The token is the last one that covers any of the
    subject's last character, so it is right when that character is split into several tokens and
    when the token reaches beyond the subject.
    Raises InvalidEdit when the subject is not there, UnsupportedTokenizer without offsets.
    """
    end = _last_occurrence(text[:stop], subject, start)
    ids, offsets = encode(tokenizer, text)
    covering = [i for i, (left, right) in enumerate(offsets) if left < end <= right]
    if not covering:
        # The last character may have been normalised away: the token before it is the last.
        covering = [i for i, (left, right) in enumerate(offsets) if left < right <= end]
    if not covering:
        raise InvalidEdit(f"the tokenizer gives no token for the subject {subject!r}: rename it")
    return Tokens(tuple(ids), covering[-1])


def encode(
    tokenizer: PreTrainedTokenizerBase, text: str
) -> tuple[list[int], list[tuple[int, int]]]:
    """Token ids and the characters [start, end) each covers; special tokens cover none.

    Special tokens that the tokenizer adds at the end are left out, so that text can follow.
    """
    if not tokenizer.is_fast:
        raise UnsupportedTokenizer(
            "the tokenizer does not report character offsets: load the fast tokenizer"
        )
    encoded = tokenizer(text, return_offsets_mapping=True)
    ids = list(encoded["input_ids"])
    offsets = [(int(left), int(right)) for left, right in encoded["offset_mapping"]]
    while offsets and offsets[-1][0] == offsets[-1][1]:
        ids.pop()
        offsets.pop()
    return ids, offsets


def beginning(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The special tokens that the tokenizer puts in front of every text, most often one or none."""
    ids, offsets = encode(tokenizer, "The")
    return [token for token, (left, right) in zip(ids, offsets, strict=True) if left == right]


def target_ids(
    tokenizer: PreTrainedTokenizerBase, prompt: str, target: str, joined: bool = False
) -> tuple[int, ...]:
    """The tokens of `target` as they continue `prompt`, without those of the prompt.

    A target is tokenized in its place: the tokenizer decides whether its first token includes the
    space or the space is a token of its own. `joined`: the target follows the prompt as it is, as
    in a chat template, and no space is added or removed between them.
    Raises InvalidEdit when the target has no tokens.
    """
    prompt = prompt if joined else prompt.rstrip(" ")
    prompt_ids, _ = encode(tokenizer, prompt)
    text = prompt + target if joined else continue_with(prompt, target)
    ids, offsets = encode(tokenizer, text)
    if ids[: len(prompt_ids)] == prompt_ids:
        target_tokens = ids[len(prompt_ids) :]
    else:
        # A token spans the border; the prompt was read without it, so it belongs to the target.
        target_tokens = [i for i, (_, end) in zip(ids, offsets, strict=True) if end > len(prompt)]
    if not target_tokens:
        raise InvalidEdit(f"the tokenizer gives no token for the target {target!r}: reword it")
    return tuple(target_tokens)


def _last_occurrence(text: str, subject: str, start: int) -> int:
    """The end of the occurrence that counts, in characters."""
    behind = text[start:]
    last = max(whole_places(behind, subject), default=behind.rfind(subject))
    if last < 0:
        raise InvalidEdit(f"the text {text!r} does not contain the subject {subject!r}")
    return start + last + len(subject)
