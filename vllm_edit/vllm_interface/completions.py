"""Completions and chats by vLLM's own handlers, in this process."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from vllm_edit.domain.errors import Unavailable
from vllm_edit.vllm_interface.symbol import Symbol


class CompletionHandler(Protocol):
    """What answers /v1/completions; vLLM keeps it as ``app.state.openai_serving_completion``."""

    async def create_completion(self, request: Any) -> Any: ...


class ChatHandler(Protocol):
    """What answers /v1/chat/completions; vLLM keeps it as ``app.state.openai_serving_chat``."""

    async def create_chat_completion(self, request: Any) -> Any: ...


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


class _ChatRequest(Protocol):
    model: str | None
    messages: Sequence[Any]
    max_completion_tokens: int | None
    temperature: float | None
    chat_template_kwargs: dict[str, Any] | None
    cache_salt: str | None


class _Message(Protocol):
    content: str | None


class _ChatChoice(Protocol):
    message: _Message


class _ChatResponse(Protocol):
    choices: Sequence[_ChatChoice]


class _ErrorInfo(Protocol):
    message: str


class _ErrorResponse(Protocol):
    error: _ErrorInfo


_PROTOCOL = "vllm.entrypoints.openai.completion.protocol"
_CHAT_PROTOCOL = "vllm.entrypoints.openai.chat_completion.protocol"

HANDLER = Symbol(
    "vllm.entrypoints.openai.completion.serving", "OpenAIServingCompletion", CompletionHandler
)
REQUEST = Symbol(_PROTOCOL, "CompletionRequest", _Request)
RESPONSE = Symbol(_PROTOCOL, "CompletionResponse", _Response)
CHOICE = Symbol(_PROTOCOL, "CompletionResponseChoice", _Choice)
CHAT_HANDLER = Symbol(
    "vllm.entrypoints.openai.chat_completion.serving", "OpenAIServingChat", ChatHandler
)
CHAT_REQUEST = Symbol(_CHAT_PROTOCOL, "ChatCompletionRequest", _ChatRequest)
CHAT_RESPONSE = Symbol(_CHAT_PROTOCOL, "ChatCompletionResponse", _ChatResponse)
CHAT_CHOICE = Symbol(_CHAT_PROTOCOL, "ChatCompletionResponseChoice", _ChatChoice)
CHAT_MESSAGE = Symbol(_CHAT_PROTOCOL, "ChatMessage", _Message)
ERROR_RESPONSE = Symbol("vllm.entrypoints.serve.engine.protocol", "ErrorResponse", _ErrorResponse)
ERROR_INFO = Symbol("vllm.entrypoints.serve.engine.protocol", "ErrorInfo", _ErrorInfo)
ERROR = Symbol("vllm.exceptions", "VLLMError")


async def complete(handler: CompletionHandler, request: Mapping[str, Any]) -> str:
    """The text of the first choice for a request body; raises Unavailable if there is none."""
    answer = await _answer(handler.create_completion, REQUEST, RESPONSE, request)
    text: str = answer.choices[0].text
    return text


async def chat(handler: ChatHandler, request: Mapping[str, Any]) -> str:
    """The message of the first choice for a request body; raises Unavailable if there is none."""
    answer = await _answer(handler.create_chat_completion, CHAT_REQUEST, CHAT_RESPONSE, request)
    return answer.choices[0].message.content or ""


async def _answer(
    handle: Callable[[Any], Awaitable[Any]], kind: Symbol, good: Symbol, body: Mapping[str, Any]
) -> Any:
    vllm_error: type[Exception] = ERROR.load()
    try:
        answer = await handle(kind.load()(**body))
    except vllm_error as error:
        raise Unavailable(str(error)) from error
    if not isinstance(answer, good.load()):
        raise Unavailable(str(answer.error.message))
    return answer
