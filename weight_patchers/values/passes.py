"""Limits how many tokens go through the model at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from weight_patchers.edit import Edit
from weight_patchers.values.contexts import Context
from weight_patchers.values.hparams import ValueHparams

# A pass may keep activations in this share of the model's memory, or in at least this many bytes.
_MEMORY_SHARE = 0.15
_LEAST_BYTES = 256 << 20

# Cost of a token read once, whose layers keep a key and a value: 2 d against 6 d + 3 d_ff.
_READ_ONCE = 1 / 8


def pass_tokens(model: PreTrainedModel) -> int:
    """How many tokens one pass with gradients may hold.

    For a token, each layer keeps about 6 d + 3 d_ff values for its backward pass towards its
    input: norms, attention, the MLP's gate.
    """
    config = model.config.get_text_config()
    width = int(config.hidden_size)
    inner = int(getattr(config, "intermediate_size", None) or 4 * width)
    sizes = {p: p.numel() * p.element_size() for p in model.parameters()}
    each = int(config.num_hidden_layers) * (6 * width + 3 * inner) * model.dtype.itemsize
    return max(1, int(max(_LEAST_BYTES, _MEMORY_SHARE * sum(sizes.values())) / each))


@dataclass(frozen=True)
class RowSizes:
    """The size of an edit's rows, in tokens of a pass.

    `before` and `after` are the longest of the contexts around a prompt, `contexts` their
    number; `texts` and `longest` are the number and length of the other texts about a subject.
    With `whole`, tokens before the subject cost as much as those after it.
    """

    tokenizer: PreTrainedTokenizerBase
    contexts: int
    before: int
    after: int
    texts: int = 0
    longest: int = 0
    whole: bool = False

    @classmethod
    def of(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        contexts: Sequence[Context],
        hp: ValueHparams | None = None,
    ) -> "RowSizes":
        """The sizes for an optimisation of values or, without `hp`, for fine-tuning."""
        around = (
            len(contexts),
            max(_length(tokenizer, context.before) for context in contexts),
            max(_length(tokenizer, context.after) for context in contexts),
        )
        if hp is None:
            return cls(tokenizer, *around, whole=True)
        prompts = [_length(tokenizer, prompt.partition("{subject}")[2]) for prompt in hp.kl_prompts]
        longest = max([*prompts, hp.kept_length if hp.kept_samples else 0], default=0)
        return cls(tokenizer, *around, len(hp.kl_prompts) + hp.kept_samples, longest)

    def rows(self, group: Sequence[Edit]) -> int:
        return len(group) * self.contexts + self.texts

    def lengths(self, group: Sequence[Edit]) -> tuple[int, int]:
        """Upper bounds of the tokens up to the subject's end, and from its last token on."""
        heads, tails = [0], [1 + self.longest]
        for edit in group:
            head, subject, rest = edit.prompt.partition(edit.subject)
            heads.append(_length(self.tokenizer, head + subject) + self.before)
            answer = _length(self.tokenizer, f"{rest} {edit.target_new}")
            tails.append(1 + answer + self.after)
        return max(heads), max(tails)

    def tokens(self, rows: int, head: int, tail: int) -> float:
        """The cost of rows of these lengths, in tokens of a pass."""
        return rows * (tail + head * (1 if self.whole else _READ_ONCE))


def split_by_size(
    groups: Sequence[Sequence[Edit]], measure: RowSizes, bound: int
) -> Iterator[list[Sequence[Edit]]]:
    """Runs of groups whose rows, padded, hold about `bound` tokens; at least one group each."""
    piece: list[Sequence[Edit]] = []
    rows = head = tail = 0
    for group in groups:
        lengths, count = measure.lengths(group), measure.rows(group)
        longer = max(head, lengths[0]), max(tail, lengths[1])
        if piece and measure.tokens(rows + count, *longer) > bound:
            yield piece
            piece, rows, longer = [], 0, lengths
        piece.append(group)
        rows, (head, tail) = rows + count, longer
    yield piece


def _length(tokenizer: PreTrainedTokenizerBase, text: str) -> int:
    return len(tokenizer(text, add_special_tokens=False)["input_ids"])
