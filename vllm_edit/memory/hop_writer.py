"""Lets the served model, or one of its variants, write the hops of a question."""

from collections.abc import Mapping
from typing import Any

from retriever import HopFormat
from vllm_edit.domain.errors import Unavailable
from vllm_edit.vllm_interface.completions import CompletionHandler, complete


class HopWriter:
    """Short greedy completions by vLLM's own handler, in this process.

    Each has the model, and so the variant, and the cache salt of the request that it is for. The
    engine batches them with everything else.
    """

    def __init__(
        self, completions: CompletionHandler, hop_format: HopFormat, hop_tokens: int
    ) -> None:
        self._completions = completions
        self._format = hop_format
        self._tokens = hop_tokens

    async def write(self, text: str, request: Mapping[str, Any]) -> str:
        """The continuation of the text, up to and including a stop.

        Empty if vLLM cannot write it: vLLM will then refuse the request itself.
        """
        body = {
            "model": request.get("model"),
            "prompt": text,
            "max_tokens": self._tokens,
            "temperature": 0.0,
            "stop": self._format.stops,
            "include_stop_str_in_output": True,
            "cache_salt": request.get("cache_salt"),
        }
        try:
            return await complete(self._completions, body)
        except Unavailable:
            return ""
