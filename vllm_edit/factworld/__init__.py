"""The bundled miniature model and the synthetic world it knows."""

from pathlib import Path

from vllm_edit.factworld.schemas import requests
from vllm_edit.factworld.texts import corpus, demonstrations
from vllm_edit.factworld.world import World, build_world

__all__ = [
    "World",
    "build_world",
    "checkpoint",
    "corpus",
    "demonstrations",
    "requests",
]


def checkpoint() -> Path:
    """The bundled Hugging Face checkpoint folder."""
    return Path(__file__).parent / "checkpoint"
