"""Logging of the server: to the same place as vLLM's own messages."""

import json
import logging
import time
from typing import Literal

from vllm_edit.domain.actor import current_actor

LogFormat = Literal["text", "json"]


def log_with_vllm(log_format: LogFormat = "text") -> None:
    """Send this package's messages where vLLM's go, at the same level.

    They are in vLLM's format, or each is a line of JSON. Without this not even warnings would
    show: a library that vLLM's server imports raises the root logger's level.
    """
    own, vllm = logging.getLogger("vllm_edit"), logging.getLogger("vllm")
    own.handlers = list(vllm.handlers) if log_format == "text" else [_json_handler(vllm)]
    own.setLevel(vllm.getEffectiveLevel())
    own.propagate = not own.handlers


class JsonFormatter(logging.Formatter):
    """A record as a line of JSON: when, how grave, where, what, and for whom it was done."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if actor := current_actor():
            line |= {"key": actor.key, "client": actor.client, "request": actor.request}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _json_handler(vllm: logging.Logger) -> logging.Handler:
    """A handler of JSON to the stream of vLLM's own, or to standard error."""
    streams = (h.stream for h in vllm.handlers if isinstance(h, logging.StreamHandler))
    handler = logging.StreamHandler(next(streams, None))
    handler.setFormatter(JsonFormatter())
    return handler
