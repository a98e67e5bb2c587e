"""Completions by vLLM's own handler, in this process."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from vllm_edit.domain.errors import Unavailable
from vllm_edit.vllm_interface.symbol import Symbol


class CompletionHandler(Protocol):
    """What answers /v1/completions; vLLM keeps it as ``app.state.openai_serving_completion``."""

    async def create_completion(self, request: Any) -> Any: ...


class _Request(Protocol):
    model: str | None
    prompt: str
    max_tokens: int | None
    temperature: float | None
    stop: str | list[str] | None
    include_stop_str_in_output: bool
    cache_salt: str | None


class _Choice(Protocol):
    text: str


class _Response(Protocol):
    choices: Sequence[_Choice]


class _ErrorInfo(Protocol):
    message: str


class _ErrorResponse(Protocol):
    error: _ErrorInfo


_PROTOCOL = "vllm.entrypoints.openai.completion.protocol"

HANDLER = Symbol(
    "vllm.entrypoints.openai.completion.serving", "OpenAIServingCompletion", CompletionHandler
)
REQUEST = Symbol(_PROTOCOL, "CompletionRequest", _Request)
RESPONSE = Symbol(_PROTOCOL, "CompletionResponse", _Response)
CHOICE = Symbol(_PROTOCOL, "CompletionResponseChoice", _Choice)
ERROR_RESPONSE = Symbol("vllm.entrypoints.serve.engine.protocol", "ErrorResponse", _ErrorResponse)
ERROR_INFO = Symbol("vllm.entrypoints.serve.engine.protocol", "ErrorInfo", _ErrorInfo)
ERROR = Symbol("vllm.exceptions", "VLLMError")


async def complete(handler: CompletionHandler, request: Mapping[str, Any]) -> str:
    """The text of the first choice for a request body; raises Unavailable if there is none."""
    vllm_error: type[Exception] = ERROR.load()
    try:
        answer = await handler.create_completion(REQUEST.load()(**request))
    except vllm_error as error:
        raise Unavailable(str(error)) from error
    if not isinstance(answer, RESPONSE.load()):
        raise Unavailable(str(answer.error.message))
    text: str = answer.choices[0].text
    return text
