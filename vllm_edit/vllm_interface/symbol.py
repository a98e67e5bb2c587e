"""A name of vLLM that this project uses."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vllm_edit.vllm_interface.version import Release, installed, refusal, release


@dataclass(frozen=True)
class Symbol:
    """A class, function or value of vLLM, or a whole module if it has no ``name``.

    ``module`` is where the oldest supported version has it. ``moved`` holds the modules of later
    versions, by the first release that has it there. ``uses`` is a Protocol with all that is used
    of it: attributes, fields and methods, these with the parameters that are named in a call. The
    parameters of a function are those of ``__call__``.
    """

    module: str
    name: str = ""
    uses: type | None = None
    moved: Mapping[Release, str] = field(default_factory=dict)

    def module_in(self, version: Release) -> str:
        """The module that has it in this version of vLLM."""
        since = [first for first in self.moved if first <= version]
        return self.moved[max(since)] if since else self.module

    def load(self) -> Any:
        """What it names; imports vLLM. Raises Unavailable if the installed vLLM lacks it."""
        version = installed()
        where = self.module_in(release(version))
        try:
            module = importlib.import_module(where)
            return getattr(module, self.name) if self.name else module
        except (ModuleNotFoundError, AttributeError) as error:
            raise refusal(version, [f"{where}.{self.name}".rstrip(".")]) from error
