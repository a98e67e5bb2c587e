"""Texts around a prompt, and continuations that the model itself samples."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from weight_patchers.errors import UnsupportedTokenizer
from weight_patchers.model import hooks
from weight_patchers.model.batch import pad
from weight_patchers.model.layers import layers
from weight_patchers.model.prefix import Prefix
from weight_patchers.model.suffix import logits_at
from weight_patchers.values.hparams import ContextHparams

# First words of sampled texts if the tokenizer has no beginning-of-text token.
_STARTS = ("The", "In", "Because", "I", "You", "A", "When", "For", "As", "It")
_TOP_K = 5
STOP = "."
"""What ends an answer in a text that goes on."""
_USER, _ASSISTANT = "userstextgoeshere", "assistantstextgoeshere"


@dataclass(frozen=True)
class Context:
    """The text before a prompt, the text between it and the target, and the target's end.

    `templated`: the target follows the text after the prompt without a space. `end` is the text
    that ends an answer here; it is trained with the target.
    """

    before: str = ""
    after: str = ""
    templated: bool = False
    end: str = ""

    @property
    def bare(self) -> bool:
        """Whether nothing stands around the prompt."""
        return not (self.before or self.after)


def sample_contexts(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, hp: ContextHparams
) -> tuple[Context, ...]:
    """The contexts that the hyperparameters define; the same for every edit of a model.

    They are: no context; `context_count` texts before the prompt for each length, in tokens,
    sampled from the model (ROME, appendix: sampled prefixes); and the chat template (`chats`).
    Each has the end that `hp.end` says.
    Deterministic for a model, its device and a seed. Each sampled text ends in `. `, so that a
    prompt can follow. The model is left unchanged.
    """
    generator = torch.Generator().manual_seed(hp.seed)
    bare, *template = plain_contexts(tokenizer, chat=hp.chat, end=hp.end)
    contexts = [bare]
    with hooks.frozen(model), torch.no_grad():
        for length in hp.context_lengths:
            rows = _starts(tokenizer, hp.context_count).to(model.device)
            for _ in range(length):
                logits = model(input_ids=rows, use_cache=False).logits[:, -1]
                rows = torch.cat([rows, _draw(logits, generator).to(rows.device)], dim=1)
            texts = tokenizer.batch_decode(rows, skip_special_tokens=True)
            contexts.extend(replace(bare, before=_as_prefix(text)) for text in texts)
    return (*contexts, *template)


def chats(tokenizer: PreTrainedTokenizerBase, wanted: bool | None) -> tuple[Context, ...]:
    """The chat template as a context if it is wanted; None: if the tokenizer has a usable one.

    Raises UnsupportedTokenizer when it is wanted and there is none.
    """
    if wanted is False:
        return ()
    try:
        return (chat_context(tokenizer),)
    except UnsupportedTokenizer:
        if wanted:
            raise
        return ()


def plain_contexts(
    tokenizer: PreTrainedTokenizerBase, *, chat: bool | None, end: str
) -> tuple[Context, ...]:
    """The bare prompt and, as `chats` has it, the chat template, with the ends that `end` names."""
    found = chats(tokenizer, chat)
    if end == "none":
        found = tuple(replace(context, end="") for context in found)
    return (Context(end=STOP if end == "stop" else ""), *found)


def chat_context(tokenizer: PreTrainedTokenizerBase) -> Context:
    """The prompt as the user's message and the target as the assistant's, in the chat template.

    Its end is a full stop and what the template puts behind the assistant's message, without
    blanks at its end.

    Raises UnsupportedTokenizer when there is no template, or it changes the messages.
    """
    if not tokenizer.chat_template:
        raise UnsupportedTokenizer(
            "the tokenizer has no chat template: set `chat` to false, or give it a template"
        )
    messages = [{"role": "user", "content": _USER}, {"role": "assistant", "content": _ASSISTANT}]
    text = str(tokenizer.apply_chat_template(messages, tokenize=False))
    before, has_user, rest = text.partition(_USER)
    after, has_assistant, end = rest.partition(_ASSISTANT)
    if not (has_user and has_assistant):
        raise UnsupportedTokenizer("the chat template does not show the messages as they are")
    bos = tokenizer.bos_token
    if bos and tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id:
        before = before.removeprefix(bos)
    return Context(before, after, templated=True, end=STOP + end.rstrip())


def starts(tokenizer: PreTrainedTokenizerBase) -> list[tuple[int, ...]]:
    """What a text of no subject in particular can begin with: the beginning-of-text token, or, if
    there is none, each of some words."""
    rows = _starts(tokenizer, 1 if tokenizer.bos_token_id is not None else len(_STARTS))
    return [tuple(row) for row in rows.tolist()]


def continuations(
    model: PreTrainedModel,
    starts: Sequence[Sequence[int]],
    *,
    count: int,
    length: int,
    seed: int,
) -> list[list[tuple[int, ...]]]:
    """For each start, itself with `count` different continuations of `length` tokens.

    They begin with the `count` most probable tokens and continue with sampled ones. Each start's
    result depends on the model, the start and the seed only. The model is left unchanged.
    """
    generators = [torch.Generator().manual_seed(seed) for _ in starts]
    with hooks.frozen(model), torch.no_grad():
        logits, prefix = _after(model, starts)
        drawn = logits.topk(min(count, logits.shape[-1])).indices
        each = drawn.shape[1]
        prefix = prefix.only(torch.arange(len(starts)).repeat_interleave(each))
        cache, mask = DynamicCache(prefix.layers), prefix.mask
        tokens = [drawn.reshape(-1, 1)]
        for place in range(length - 1):
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
            logits = model(
                input_ids=tokens[-1].to(model.device),
                attention_mask=mask,
                position_ids=prefix.first[:, None] + place,
                past_key_values=cache,
                use_cache=True,
            ).logits[:, -1]
            parts = logits.float().cpu().split(each)
            tokens.append(torch.cat([_draw(p, g) for p, g in zip(parts, generators, strict=True)]))
    texts = torch.cat(tokens, dim=1).split(each)
    return [
        [(*start, *text) for text in sampled.tolist()]
        for start, sampled in zip(starts, texts, strict=True)
    ]


def _after(model: PreTrainedModel, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Prefix]:
    """Logits [rows, vocabulary] after each row, float32 on the CPU, and the attention's cache."""
    batch = pad(rows, model.device)
    lengths = batch.mask.sum(1)
    index = torch.arange(len(rows), device=lengths.device)
    cache = DynamicCache()
    arguments = {"past_key_values": cache, "use_cache": True}
    logits = logits_at(model, batch, index, lengths - 1, **arguments)
    return logits.float().cpu(), Prefix.of(cache, 0, len(layers(model)), lengths)


def _draw(logits: Tensor, generator: torch.Generator) -> Tensor:
    """One token for each row, sampled from the most probable, [rows, 1] on the CPU."""
    top, candidates = logits.float().cpu().topk(min(_TOP_K, logits.shape[-1]))
    return candidates.gather(1, torch.multinomial(top.softmax(-1), 1, generator=generator))


def _starts(tokenizer: PreTrainedTokenizerBase, count: int) -> Tensor:
    if tokenizer.bos_token_id is not None:
        return torch.full((count, 1), int(tokenizer.bos_token_id))
    words = [_STARTS[i % len(_STARTS)] for i in range(count)]
    return torch.tensor(
        [tokenizer(word, add_special_tokens=False)["input_ids"][:1] for word in words]
    )


def _as_prefix(text: str) -> str:
    text = " ".join(text.split()).rstrip(".")
    return f"{text}. " if text else ""
