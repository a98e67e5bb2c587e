"""The router of a server, made from its settings."""

from pathlib import Path
from typing import cast

from retriever import HopFormat, Mello, MelloSettings, load_hop_format
from retriever.mello.settings import Questions
from retriever.mello.shown import SHOWN
from vllm_edit import factworld
from vllm_edit.memory.hop_writer import ServedModel
from vllm_edit.memory.method import MemoryMethod
from vllm_edit.memory.router import Budget, Router
from vllm_edit.settings import Settings
from vllm_edit.vllm_interface.completions import CompletionHandler


def make_router(
    settings: Settings, memory: MemoryMethod, model: str, completions: CompletionHandler
) -> Router:
    """Raises InvalidHopFormatError for a file of labels that cannot be read."""
    hop_format = _hop_format(settings, model)
    mello = mello_settings(settings)
    budget = Budget(settings.route_budget_ms / 1000 or None, settings.route_over_budget == "fail")
    served = ServedModel(completions, hop_format, mello.hop_tokens)
    return Router(memory, Mello(hop_format, mello.max_hops), served, budget)


def mello_settings(settings: Settings) -> MelloSettings:
    """Raises InvalidSettingsError for a value outside its range."""
    questions = cast("Questions", settings.mello_questions)
    return MelloSettings(questions=questions, max_hops=settings.mello_hops)


def _hop_format(settings: Settings, model: str) -> HopFormat:
    if settings.mello_format:
        return load_hop_format(Path(settings.mello_format))
    # The bundled model is trained on these labels, the others must be shown.
    return HopFormat() if Path(model) == factworld.checkpoint() else SHOWN
