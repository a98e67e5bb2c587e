"""Weight methods: deltas computed by the editor process and merged into the running engine."""

import asyncio
import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vllm_edit.edit import Edit, EditRequest
from vllm_edit.editor.client import EditorClient
from vllm_edit.editor.messages import Fact
from vllm_edit.engine.swap import Swapper
from vllm_edit.errors import ComputeFailed
from weight_patchers import Delta, PatcherError, fingerprint

logger = logging.getLogger(__name__)

LEAST_GREEDY = 0.5
"""Share of contexts in which the edited copy must answer with the target."""


class WeightMethod:
    """Keeps the engine's weights equal to base plus the deltas of the active weight edits.

    ``model`` is the checkpoint folder that is served; ``deltas`` the folder of delta files, one
    for each edit and named after it; ``hyperparameters`` replace values of the method's own.
    ``scratch`` is the editor's socket folder, removed by ``close``.
    """

    names = frozenset({"rome"})
    queued = True

    def __init__(
        self,
        model: Path,
        deltas: Path,
        editor: EditorClient,
        swapper: Swapper,
        hyperparameters: Mapping[str, Any],
        eager: bool,
        scratch: "tempfile.TemporaryDirectory[str]",
    ) -> None:
        self._model = model
        self._folder = deltas
        self._editor = editor
        self._swapper = swapper
        self._hyperparameters = hyperparameters
        self._eager = eager
        self._scratch = scratch
        self._live: dict[str, Delta] = {}

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(sorted({delta.method for delta in self._live.values()}))

    def check(self, request: EditRequest) -> None:
        pass

    async def prepare(self) -> None:
        if self._eager:
            await self._editor.start()

    async def restore(self, edits: Sequence[Edit], revision: int) -> None:
        if not edits:
            return
        base = await asyncio.to_thread(fingerprint, self._model)
        live: dict[str, Delta] = {}
        for edit in edits:
            try:
                delta = await asyncio.to_thread(Delta.load, self._path(edit.id))
                delta.require_base(base)
            except PatcherError as error:
                logger.warning("%s is computed again: %s", edit.id, error)
                delta = await self._compute(edit, tuple(live))
            live[edit.id] = delta
        await self._swap(live, revision)

    async def compute(self, edits: Sequence[Edit]) -> dict[str, Delta]:
        computed: dict[str, Delta] = {}
        for edit in edits:
            computed[edit.id] = await self._compute(edit, (*self._live, *computed))
        return computed

    async def apply(
        self, edits: Sequence[Edit], computed: Mapping[str, Delta], revision: int
    ) -> None:
        await self._swap(self._live | {edit.id: computed[edit.id] for edit in edits}, revision)

    async def deactivate(self, edit: Edit, revision: int) -> None:
        live = {edit_id: delta for edit_id, delta in self._live.items() if edit_id != edit.id}
        await self._swap(live, revision)
        self._path(edit.id).unlink(missing_ok=True)

    async def close(self) -> None:
        await self._editor.close()
        self._scratch.cleanup()

    async def _compute(self, edit: Edit, live: Sequence[str]) -> Delta:
        """The delta of one edit on top of the live ones; raises ComputeFailed."""
        request = edit.request
        self._folder.mkdir(parents=True, exist_ok=True)
        computed = await self._editor.compute(
            [Fact(edit.id, request.prompt, request.subject, request.target_new)],
            request.method,
            self._path(edit.id),
            live=[self._path(edit_id) for edit_id in live],
            hyperparameters=self._hyperparameters,
        )
        logger.info("%s was computed in %.2f s.", edit.id, computed.seconds)
        _require_reached(computed.diagnostics)
        try:
            return await asyncio.to_thread(Delta.load, computed.path)
        except PatcherError as error:
            raise ComputeFailed(str(error), code=error.code) from error

    async def _swap(self, live: dict[str, Delta], revision: int) -> None:
        await self._swapper.serve(list(live.values()), weight_version=str(revision))
        self._live = live

    def _path(self, edit_id: str) -> Path:
        return self._folder / f"{edit_id}.safetensors"


def _require_reached(diagnostics: Mapping[str, Any]) -> None:
    """Raise ComputeFailed if the edited copy of the model does not say what it was edited to."""
    for told in diagnostics["edits"]:
        if told["greedy_after"] < LEAST_GREEDY:
            raise ComputeFailed(
                f"The edited model still answers otherwise after {1 - told['greedy_after']:.0%} of "
                "the texts the edit was tried behind. Reword the prompt, or use a memory method.",
                code="target_not_reached",
            )
