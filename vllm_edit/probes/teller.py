"""Asks the server the prompt of an edit in effect, as a completion and as a user's message."""

from collections.abc import Callable
from typing import Protocol

from vllm_edit.domain.edit import Edit
from vllm_edit.domain.errors import EditError, VariantUnavailable
from vllm_edit.domain.own_answers import OwnAnswer, OwnAnswers
from vllm_edit.probes.metrics import TOLD_ASKED
from weight_patchers.continuation import continue_with
from weight_patchers.wording import begins_with

MORE_TOKENS = 6
"""Tokens of an answer beyond the target's, so that one sees whether its last word ends there."""


class Speaker(Protocol):
    """Answers as a variant of the served model, greedily and to one prompt at a time.

    Raises EditError where a client would get no answer: VariantUnavailable if none can be had,
    Unavailable if it takes too long.
    """

    @property
    def chats(self) -> bool:
        """Whether the model has a chat template."""
        ...

    async def complete(self, variant: str, prompt: str, max_tokens: int) -> str:
        """The completion of a prompt."""
        ...

    async def chat(self, variant: str, prompt: str, max_tokens: int) -> str:
        """The answer to the prompt as a user's message."""
        ...


class Teller:
    """Finds out whether edits are told; ``count_tokens`` is the served tokenizer's."""

    def __init__(self, speaker: Speaker, count_tokens: Callable[[str], int]) -> None:
        self._speaker = speaker
        self._count_tokens = count_tokens

    @property
    def chats(self) -> bool:
        """Whether prompts are asked as chats too."""
        return self._speaker.chats

    async def ask(
        self, edit: Edit, variant: str, revision: int, *, chat: bool = True
    ) -> OwnAnswers:
        """Ask the edit's prompt; ``revision`` is in effect. With ``chat``, as a chat too.

        What a client could not get an answer to is not told. If no client can ask the variant,
        nothing was asked.
        """
        prompt, target = edit.request.prompt, edit.request.target_new
        room = self._count_tokens(f" {target}") + MORE_TOKENS
        TOLD_ASKED.inc()
        try:
            answer = await self._speaker.complete(variant, prompt, room)
        except VariantUnavailable as error:
            return OwnAnswers(variant, revision, refused=error.message)
        except EditError as error:
            return OwnAnswers(
                variant, revision, bare=OwnAnswer("", begins=False), refused=error.message
            )
        bare = OwnAnswer(answer, bool(begins_with(answer, target)))
        if not (chat and self.chats):
            return OwnAnswers(variant, revision, bare)
        TOLD_ASKED.inc()
        room += self._count_tokens(prompt)  # the answer may repeat it
        try:
            answer = await self._speaker.chat(variant, prompt, room)
        except EditError as error:
            return OwnAnswers(variant, revision, bare, refused=f"As a chat: {error.message}")
        begins = begins_with(answer, target) or begins_with(answer, continue_with(prompt, target))
        return OwnAnswers(variant, revision, bare, OwnAnswer(answer, bool(begins)))
