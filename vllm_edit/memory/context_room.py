"""How much of the context a request leaves to what is put in front of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from retriever.ike.editor import CountTokens
from retriever.parsed_request import ContextShare

_TEMPLATE, _TURN = 64, 16
"""Tokens allowed for what a chat template adds to a chat, and to each of its messages."""
_SPECIAL = 4
"""Tokens allowed for what the tokenizer adds to a prompt."""
_ANSWER = 256
"""Tokens left for the answer if the request does not say how many, but not over a quarter."""


@dataclass(frozen=True)
class ContextRoom:
    """The context of the served model, in tokens, and how texts are counted."""

    context: int
    count: CountTokens

    def share(self, request: Mapping[str, Any]) -> ContextShare:
        """What a request and its answer may take, beside what its texts are wrapped in."""
        around = self._around(request)
        unsaid = min(_ANSWER, self.context // 4)
        limits = (request.get(name) for name in ("max_completion_tokens", "max_tokens"))
        answer = next((limit for limit in limits if isinstance(limit, int)), unsaid)
        # Of a prompt that is truncated, the facts would be cut away first.
        keep = request.get("truncate_prompt_tokens")
        prompt = None
        if isinstance(keep, int):
            prompt = (self.context - 1 if keep < 0 else keep) - around
        return ContextShare(self.context - around, answer, unsaid, prompt)

    def _around(self, request: Mapping[str, Any]) -> int:
        messages = request.get("messages")
        if not isinstance(messages, list):
            return _SPECIAL
        around = _TEMPLATE + _TURN * len(messages)
        if tools := request.get("tools"):
            around += self.count(json.dumps(tools))
        return around
