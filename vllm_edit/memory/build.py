"""The memory of a server and its router, made from the settings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from retriever import (
    Demonstration,
    FactLimits,
    FeedbackMemory,
    HopFormat,
    IkeSettings,
    Mello,
    MelloSettings,
    PromptForms,
    Retriever,
    RetrieverSettings,
    ScopeClassifier,
    SentenceEncoder,
    StoredEncoder,
    forms_for,
    load_demonstrations,
    load_hop_format,
    load_prompt_forms,
    shipped_demonstrations,
)
from retriever.ike.editor import CountTokens
from retriever.mello.few_shot import FEW_SHOT_FORMAT
from retriever.scope.files import SHIPPED
from vllm_edit import factworld
from vllm_edit.memory.context_room import ContextRoom
from vllm_edit.memory.hop_writer import HopWriter
from vllm_edit.memory.method import MemoryMethod
from vllm_edit.memory.metrics import TimedClassifier, TimedEncoder
from vllm_edit.memory.router import Router, RoutingBudget
from vllm_edit.serac.serac import Serac
from vllm_edit.settings import Settings
from vllm_edit.vllm_interface.completions import CompletionHandler
from vllm_edit.vllm_interface.engine import EngineClient, max_model_len, text_config, tokenizer


def make_memory(
    settings: Settings, model: str, engine: EngineClient, serac: Serac | None
) -> MemoryMethod:
    """The memory methods for the checkpoint ``model``.

    Raises RetrieverError for a setting out of its range or a file that cannot be read.
    """
    retriever = make_retriever(
        settings, model, max_model_len(engine), token_counter(engine), text_config(engine)
    )
    feedback = FeedbackMemory(retriever.encoder, settings.feedback_likeness)
    return MemoryMethod(retriever, feedback, serac)


def make_retriever(
    settings: Settings,
    model: str,
    context: int,
    count_tokens: CountTokens,
    config: Mapping[str, Any] | None = None,
) -> Retriever:
    """The retriever for a model with a context of so many tokens; raises as `make_memory` does.

    ``config`` is the model's, if it is known; else it is read from the checkpoint.
    """
    limits = FactLimits(
        subject=settings.max_prompt_chars,
        prompt=settings.max_prompt_chars,
        target=settings.max_target_chars,
    )
    options = RetrieverSettings(
        threshold=settings.scope_threshold,
        ike=_ike(settings, _prompt_forms(settings, model, config), context // 2),
        mello=_mello(settings),
        limits=limits,
    )
    dtype = settings.encoder_dtype
    sentences = SentenceEncoder(settings.encoder or None, dtype=dtype)
    folder = Path(settings.scope_classifier) if settings.scope_classifier else SHIPPED
    classifier = TimedClassifier(ScopeClassifier(folder, dtype=dtype))
    return Retriever(
        TimedEncoder(sentences),
        _demonstrations(settings, model),
        options,
        classifier,
        count_tokens,
        # Vectors of facts are kept on disk, those of requests are not.
        fact_encoder=StoredEncoder(sentences, settings.folder / "embeddings"),
    )


def make_router(
    settings: Settings,
    memory: MemoryMethod,
    model: str,
    completions: CompletionHandler,
    engine: EngineClient,
) -> Router:
    """The router for the checkpoint ``model``.

    Raises InvalidHopFormatError for a file of labels that cannot be read.
    """
    hop_format = _hop_format(settings, model)
    mello = _mello(settings)
    return Router(
        memory,
        Mello(hop_format, mello.max_hops),
        HopWriter(completions, hop_format, mello.hop_tokens),
        RoutingBudget(
            settings.route_budget_ms / 1000 or None, settings.route_over_budget == "fail"
        ),
        ContextRoom(max_model_len(engine), token_counter(engine)),
    )


def _ike(settings: Settings, forms: PromptForms, max_tokens: int) -> IkeSettings:
    count, slot = settings.demonstration_count, settings.chat_slot
    return IkeSettings(
        forms=forms,
        demonstrations=None if count < 0 else count,
        choice=settings.demonstration_choice,
        order=settings.demonstration_order,
        slot=None if slot == "form" else slot,
        max_tokens=min(settings.max_added_tokens, max_tokens),
    )


def _prompt_forms(settings: Settings, model: str, config: Mapping[str, Any] | None) -> PromptForms:
    if settings.prompt_form:
        return load_prompt_forms(Path(settings.prompt_form))
    if config is None:
        # Its class takes its default values for names that the file of the checkpoint leaves out.
        config = AutoConfig.from_pretrained(model).get_text_config().to_dict()
    return forms_for(config)


def _mello(settings: Settings) -> MelloSettings:
    return MelloSettings(questions=settings.mello_questions, max_hops=settings.mello_hops)


def _demonstrations(settings: Settings, model: str) -> tuple[Demonstration, ...]:
    if settings.demonstrations:
        return load_demonstrations(Path(settings.demonstrations))
    if Path(model) == factworld.checkpoint():
        return tuple(factworld.demonstrations())
    return shipped_demonstrations()


def _hop_format(settings: Settings, model: str) -> HopFormat:
    if settings.mello_format:
        return load_hop_format(Path(settings.mello_format))
    # The bundled model is trained on the labels; any other must be shown them.
    return HopFormat() if Path(model) == factworld.checkpoint() else FEW_SHOT_FORMAT


def token_counter(engine: EngineClient) -> CountTokens:
    """Counts the tokens of a text without special ones."""
    served = tokenizer(engine)
    return lambda text: len(served.encode(text, add_special_tokens=False))
