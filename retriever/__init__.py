"""Memory editors: which facts concern a request, and what to put in front of it.

Knows nothing of vLLM or HTTP. Importing it does not import torch.
"""

from retriever.decision import Decision, Decompose, Delegate, Message, Messages, Pass, Rewrite
from retriever.encoder import Encoder, SentenceEncoder
from retriever.errors import (
    DuplicateFactError,
    EncoderUnavailableError,
    InvalidClassifierError,
    InvalidDemonstrationError,
    InvalidFactError,
    InvalidHopFormatError,
    InvalidPromptFormError,
    InvalidSettingsError,
    InvalidTrainingDataError,
    RetrieverError,
    UnknownFactError,
)
from retriever.fact import Fact, FactLimits
from retriever.ike import (
    Demonstration,
    IkeSettings,
    PromptForm,
    PromptForms,
    forms_for,
    load_demonstrations,
    load_prompt_forms,
    shipped_demonstrations,
)
from retriever.mello import HopFormat, Mello, MelloSettings, load_hop_format
from retriever.memprompt import Feedback, FeedbackMemory
from retriever.retriever import Retriever
from retriever.scope import Classifier, ScopeClassifier
from retriever.settings import RetrieverSettings
from retriever.stored_encoder import StoredEncoder

__all__ = [
    "Classifier",
    "Decision",
    "Decompose",
    "Delegate",
    "Demonstration",
    "DuplicateFactError",
    "Encoder",
    "EncoderUnavailableError",
    "Fact",
    "FactLimits",
    "Feedback",
    "FeedbackMemory",
    "HopFormat",
    "IkeSettings",
    "InvalidClassifierError",
    "InvalidDemonstrationError",
    "InvalidFactError",
    "InvalidHopFormatError",
    "InvalidPromptFormError",
    "InvalidSettingsError",
    "InvalidTrainingDataError",
    "Mello",
    "MelloSettings",
    "Message",
    "Messages",
    "Pass",
    "PromptForm",
    "PromptForms",
    "Retriever",
    "RetrieverError",
    "RetrieverSettings",
    "Rewrite",
    "ScopeClassifier",
    "SentenceEncoder",
    "StoredEncoder",
    "UnknownFactError",
    "forms_for",
    "load_demonstrations",
    "load_hop_format",
    "load_prompt_forms",
    "shipped_demonstrations",
]
