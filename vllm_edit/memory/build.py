"""The memory of a server, made from its settings."""

from pathlib import Path
from typing import cast

from retriever import (
    Demonstration,
    FactLimits,
    FeedbackMemory,
    IkeSettings,
    Retriever,
    RetrieverSettings,
    ScopeClassifier,
    SentenceEncoder,
    StoredEncoder,
    load_demonstrations,
)
from retriever.encoder import Dtype
from retriever.ike.editor import CountTokens
from retriever.ike.settings import Choice, Slot
from retriever.scope.files import SHIPPED
from vllm_edit import factworld
from vllm_edit.memory.build_router import mello_settings
from vllm_edit.memory.method import MemoryMethod
from vllm_edit.memory.metrics import TimedClassifier, TimedEncoder
from vllm_edit.serac.editor import Serac
from vllm_edit.settings import Settings
from vllm_edit.vllm_interface.engine import EngineClient, max_model_len, tokenizer


def make_memory(
    settings: Settings, model: str, engine: EngineClient, serac: Serac | None
) -> MemoryMethod:
    """Raises RetrieverError for a setting out of its range or a file that cannot be read."""
    retriever = make_retriever(settings, model, max_model_len(engine), _token_counter(engine))
    feedback = FeedbackMemory(retriever.encoder, settings.feedback_likeness)
    return MemoryMethod(retriever, feedback, serac)


def make_retriever(
    settings: Settings, model: str, longest: int, count_tokens: CountTokens
) -> Retriever:
    """For a model of `longest` tokens of context. Raises as `make_memory` does."""
    limits = FactLimits(
        subject=settings.max_prompt_chars,
        prompt=settings.max_prompt_chars,
        target=settings.max_target_chars,
    )
    options = RetrieverSettings(
        threshold=settings.scope_threshold,
        ike=_ike(settings, longest // 2),
        mello=mello_settings(settings),
        limits=limits,
    )
    dtype = cast("Dtype", settings.encoder_dtype)
    sentences = SentenceEncoder(settings.encoder or None, dtype=dtype)
    folder = Path(settings.scope_classifier) if settings.scope_classifier else SHIPPED
    classifier = TimedClassifier(ScopeClassifier(folder, dtype=dtype))
    shown = _demonstrations(settings, model)
    return Retriever(
        TimedEncoder(sentences),
        shown,
        options,
        classifier,
        count_tokens,
        # What requests say is not kept.
        fact_encoder=StoredEncoder(sentences, settings.folder / "embeddings"),
    )


def _ike(settings: Settings, most: int) -> IkeSettings:
    return IkeSettings(
        demonstrations=settings.demonstration_count,
        choice=cast("Choice", settings.demonstration_choice),
        slot=cast("Slot", settings.chat_slot),
        max_tokens=min(settings.max_added_tokens, most),
    )


def _demonstrations(settings: Settings, model: str) -> tuple[Demonstration, ...]:
    if settings.demonstrations:
        return load_demonstrations(Path(settings.demonstrations))
    return tuple(factworld.demonstrations()) if Path(model) == factworld.checkpoint() else ()


def _token_counter(engine: EngineClient) -> CountTokens:
    served = tokenizer(engine)
    return lambda text: len(served.encode(text, add_special_tokens=False))
