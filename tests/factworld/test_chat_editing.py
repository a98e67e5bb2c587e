"""Edits computed under the chat template, judged by what the bundled model says in a chat.

On this model other edits work in a chat too; this tests that these edits work with and without it.
"""

from collections.abc import Callable
from statistics import mean

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tests.factworld.editing import Patch, add, cases, restored
from tests.factworld.skills import Generate
from vllm_edit.factworld.world import World

COUNT = 10
Chat = Callable[[str], str]


@pytest.fixture(scope="module")
def chat(tokenizer: PreTrainedTokenizerBase) -> Chat:
    """The served text of a user's message, without the BOS token that the tokenizer adds."""

    def chat(message: str) -> str:
        turns = [{"role": "user", "content": message}]
        text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        served = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
        text = str(text).removeprefix(tokenizer.bos_token)
        assert tokenizer(text)["input_ids"] == served
        return text

    return chat


@pytest.mark.parametrize("method", ["rome", "memit"])
def test_an_edit_under_the_chat_template_works_with_and_without_it(
    world: World, model: PreTrainedModel, generate: Generate, patch: Patch, chat: Chat, method: str
) -> None:
    scores: dict[str, list[bool]] = {"plain": [], "chat": []}
    for case in cases(world, COUNT):
        with restored(model):
            add(model, patch(method, [case.edit], chat=True))
            texts = generate([case.edit.prompt, chat(case.edit.prompt)], 8)
        for where, text in zip(scores, texts, strict=True):
            scores[where].append(case.is_correct(text))
    assert mean(scores["plain"]) >= 0.9
    assert mean(scores["chat"]) >= 0.9
