"""Facts as KN reads them: prompts in contexts, and the tokens of the old answer and the new."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from weight_patchers.common_fact import CommonFact, shipped_facts
from weight_patchers.edit import Edit
from weight_patchers.kn.attribution import Asked
from weight_patchers.model.batch import pad
from weight_patchers.model.suffix import logits_at
from weight_patchers.model.tokenization import encode, target_ids
from weight_patchers.values.contexts import Context


@dataclass(frozen=True)
class Replaced:
    """At one position of an answer: the token `old` becomes `new`.

    `asked` are the texts before that position, each in a context, with the old token there.
    """

    asked: tuple[Asked, ...]
    old: int
    new: int


def asked_in(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    answer: str,
    contexts: Sequence[Context] = (Context(),),
) -> tuple[Asked, ...]:
    """Each prompt in each context, and the first token of the answer after it.

    Raises InvalidEdit when the answer has no tokens.
    """
    return tuple(
        Asked(_ids(tokenizer, text), _answer_ids(tokenizer, text, answer, context)[0])
        for prompt in prompts
        for context in contexts
        for text in [_text(prompt, context)]
    )


def greedy_token(model: PreTrainedModel, ids: Sequence[int]) -> int:
    """The token that the model finds most probable after these."""
    batch = pad([ids], model.device)
    row = torch.zeros(1, dtype=torch.int64, device=model.device)
    with torch.no_grad():
        logits = logits_at(model, batch, row, row + len(ids) - 1)
    return int(logits[0].argmax())


def replaced_tokens(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    edit: Edit,
    contexts: Sequence[Context],
    all_tokens: bool,
) -> list[Replaced]:
    """The positions to change: the answer's first token, or with `all_tokens` every one.

    At the first position the old token is that of `edit.ground_truth`, or of what the model says if
    there is none; at a later one it is what the model says after the target so far. Positions whose
    old token is the new one are left out.
    """
    texts = [_text(edit.prompt, context) for context in contexts]
    pairs = list(zip(texts, contexts, strict=True))
    targets = [_answer_ids(tokenizer, text, edit.target_new, context) for text, context in pairs]
    bare = Context()
    start = _ids(tokenizer, _text(edit.prompt, bare))
    target = _answer_ids(tokenizer, _text(edit.prompt, bare), edit.target_new, bare)
    found = []
    for place in range(len(target) if all_tokens else 1):
        before = [
            (*_ids(tokenizer, text), *own[:place]) for text, own in zip(texts, targets, strict=True)
        ]
        if place == 0 and edit.ground_truth is not None:
            asked = asked_in(tokenizer, [edit.prompt], edit.ground_truth, contexts)
            old = asked_in(tokenizer, [edit.prompt], edit.ground_truth)[0].answer
        else:
            old = greedy_token(model, (*start, *target[:place]))
            asked = tuple(Asked(ids, old) for ids in before)
        if old != target[place]:
            found.append(Replaced(asked, old, target[place]))
    return found


def contrast_facts(count: int, seed: int) -> list[CommonFact]:
    """Shipped facts of so many different relations, one of each."""
    by_relation = {fact.relation: fact for fact in reversed(shipped_facts())}
    chosen = random.Random(seed).sample(sorted(by_relation), count)  # noqa: S311
    return [by_relation[relation] for relation in chosen]


def _text(prompt: str, context: Context) -> str:
    return context.before + prompt.rstrip(" ") + context.after


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    return tuple(encode(tokenizer, text)[0])


def _answer_ids(
    tokenizer: PreTrainedTokenizerBase, text: str, answer: str, context: Context
) -> tuple[int, ...]:
    return target_ids(tokenizer, text, answer, joined=context.templated)
