"""Logging of the server: to the same place as vLLM's own messages."""

import logging


def log_with_vllm() -> None:
    """Send this package's messages where vLLM's go, at the same level and in the same format.

    Otherwise not even warnings would show: a library that vLLM's server imports raises the root
    logger's level.
    """
    own, vllm = logging.getLogger("vllm_edit"), logging.getLogger("vllm")
    own.handlers = list(vllm.handlers)
    own.setLevel(vllm.getEffectiveLevel())
    own.propagate = not vllm.handlers
