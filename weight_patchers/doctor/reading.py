"""What the tokenizer puts around a text, as far as it matters for editing."""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from weight_patchers.errors import UnsupportedTokenizer
from weight_patchers.model.tokenization import beginning, encode
from weight_patchers.values.contexts import chat_context


@dataclass(frozen=True)
class Reading:
    """What the model reads besides a text. `begins` are the tokens put in front of it; `chat`
    says whether there is a chat template that shows messages as they are."""

    begins: tuple[str, ...]
    chat: bool


def read(tokenizer: PreTrainedTokenizerBase) -> Reading:
    """How this tokenizer puts texts to a model. Raises UnsupportedTokenizer without offsets."""
    encode(tokenizer, "The")
    begins = tokenizer.convert_ids_to_tokens(beginning(tokenizer))
    try:
        chat_context(tokenizer)
    except UnsupportedTokenizer:
        return Reading(tuple(begins), False)
    return Reading(tuple(begins), True)
