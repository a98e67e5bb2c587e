"""Where the server's front says what it does: beside vLLM's own messages."""

import logging


def join_vllm() -> None:
    """Send this package's messages where vLLM's go, at its level and in its format.

    Left alone they would not be seen, warnings included: a library that vLLM's server imports
    raises the root logger's level.
    """
    ours, theirs = logging.getLogger("vllm_edit"), logging.getLogger("vllm")
    ours.handlers = list(theirs.handlers)
    ours.setLevel(theirs.getEffectiveLevel())
    ours.propagate = not theirs.handlers
