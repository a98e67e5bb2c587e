"""Memory editors: which facts concern a request, and what to put in front of it.

Knows nothing of vLLM or HTTP. Importing it does not import torch.
"""

from retriever.decision import Message, Messages, Pass, Rewrite
from retriever.encoder import Encoder, SentenceEncoder
from retriever.errors import (
    DuplicateFactError,
    EncoderUnavailableError,
    InvalidDemonstrationError,
    InvalidFactError,
    InvalidSettingsError,
    RetrieverError,
    UnknownFactError,
)
from retriever.fact import Fact, FactLimits
from retriever.ike.demonstrations import Demonstration, load_demonstrations
from retriever.retriever import Retriever
from retriever.settings import RetrieverSettings

__all__ = [
    "Demonstration",
    "DuplicateFactError",
    "Encoder",
    "EncoderUnavailableError",
    "Fact",
    "FactLimits",
    "InvalidDemonstrationError",
    "InvalidFactError",
    "InvalidSettingsError",
    "Message",
    "Messages",
    "Pass",
    "Retriever",
    "RetrieverError",
    "RetrieverSettings",
    "Rewrite",
    "SentenceEncoder",
    "UnknownFactError",
    "load_demonstrations",
]
