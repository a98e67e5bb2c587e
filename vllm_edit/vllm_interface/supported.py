"""Whether the installed vLLM has all that this project uses."""

import logging
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from vllm_edit.vllm_interface import completions, engine, launch, layers, models, workers
from vllm_edit.vllm_interface.source import Read, Source
from vllm_edit.vllm_interface.symbol import Symbol
from vllm_edit.vllm_interface.version import SUPPORTED, Release, installed, refusal, release

SERVING = (completions, engine, launch, layers, models, workers)
"""The modules whose names a server uses."""

logger = logging.getLogger(__name__)


def symbols(modules: Iterable[ModuleType]) -> list[Symbol]:
    """All that these modules take from vLLM."""
    return [value for m in modules for value in vars(m).values() if isinstance(value, Symbol)]


def missing(read: Read, version: Release, used: Iterable[Symbol]) -> list[str]:
    """The full names of what this version of vLLM, read by ``read``, lacks."""
    source = Source(read)
    return [name for symbol in used for name in source.missing(symbol, version)]


@cache
def require_supported() -> None:
    """Check the installed vLLM by its source, once a process.

    Raises:
        Unavailable: there is no vLLM, or it lacks a name that a server uses.
    """
    version = installed()
    if lacking := missing(_read_installed, release(version), symbols(SERVING)):
        raise refusal(version, lacking)
    if release(version) not in SUPPORTED:
        logger.warning("vllm-edit was not tested with vLLM %s.", version)


def _read_installed(path: str) -> str | None:
    for folder in _folders():
        file = folder.parent / path
        if file.is_file():
            return file.read_text(encoding="utf-8")
    return None


@cache
def _folders() -> Sequence[Path]:
    spec = find_spec("vllm")
    return [Path(folder) for folder in (spec and spec.submodule_search_locations) or ()]
