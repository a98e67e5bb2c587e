"""Evaluates a model in this process, with plain Transformers instead of a server."""

import itertools
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from retriever import InvalidFactError, Retriever
from vllm_edit.domain.errors import InvalidData, InvalidEdit
from vllm_edit.editor.loaded import Loaded
from vllm_edit.editor.workbench import Options, Workbench
from vllm_edit.evaluation.ablation import Ablation, facts_of
from vllm_edit.evaluation.in_front import NOTHING, InFront
from vllm_edit.evaluation.local_model import LocalModel
from vllm_edit.evaluation.plan import ABLATIONS
from vllm_edit.evaluation.question import MAX_TOKENS
from vllm_edit.evaluation.record import RequestedRewrite
from vllm_edit.evaluation.target import AppliedEdits, EditableModel, EditApplier
from vllm_edit.memory.build import make_retriever
from vllm_edit.settings import Settings
from vllm_edit.store import Store
from weight_patchers import METHODS, Edit, PatcherError
from weight_patchers.values.shared_values import SharedValues

IKE = "ike"

_TOGETHER = 16
"""So many single edits are made side by side; a run that is killed loses no more."""


@dataclass(frozen=True)
class LocalTarget:
    """The checkpoint in folder `model` in plain Transformers on `device`.

    Edits are computed in float32. Questions are answered in `dtype`, by weights rounded to it as a
    server rounds them. `settings` are those of a server; statistics are kept in its folder.
    Values that one method found serve the others, and their time counts for each.
    """

    model: Path
    device: str
    settings: Settings
    dtype: str = "float32"
    max_tokens: int = MAX_TOKENS
    _values: SharedValues = field(default_factory=SharedValues)

    @property
    def name(self) -> str:
        rounded = "" if self.dtype == "float32" else f" in {self.dtype}"
        return f"{self.model.name} in Transformers on {self.device}{rounded}"

    @contextmanager
    def open(self, method: str) -> Iterator[EditableModel]:
        """A new copy of the model. Raises InvalidData for a method that needs a server."""
        if method not in (IKE, *ABLATIONS, *METHODS):
            raise InvalidData(
                f"{method} needs a server; without one there are "
                f"{', '.join((IKE, *METHODS, *ABLATIONS))}.",
                field="methods",
            )
        with tempfile.TemporaryDirectory(prefix="vllm-edit-evaluate-") as folder:
            text = Path(self.settings.statistics_text) if self.settings.statistics_text else None
            options = Options(
                self.model,
                self.settings.folder / "statistics",
                text,
                self.device,
                self.settings.trained_folder,
            )
            workbench = Workbench(options, self._values)
            applier, in_front = self._applier(method, workbench, Path(folder))
            loaded = workbench.load()
            model = LocalModel(
                workbench.answering(self.dtype), loaded.tokenizer, in_front, self.max_tokens
            )
            yield EditableModel(model, applier, os.getpid(), steady=True)

    def _applier(
        self, method: str, workbench: Workbench, folder: Path
    ) -> tuple[EditApplier, InFront]:
        if method in METHODS:
            return WeightEditApplier(method, workbench, folder), NOTHING
        retriever = self._retriever(workbench.load(), folder)
        if method == IKE:
            return MemoryEditApplier(retriever), InFront(retriever.route_without_hops)
        ablation = Ablation(method, retriever)
        return ablation, ablation.in_front

    def _retriever(self, loaded: Loaded, folder: Path) -> Retriever:
        tokenizer = loaded.tokenizer
        return make_retriever(
            self.settings.model_copy(update={"store": Store(folder)}),
            str(self.model),
            context=loaded.model.config.get_text_config().max_position_embeddings,
            count_tokens=lambda text: len(tokenizer.encode(text, add_special_tokens=False)),
        )


@dataclass(frozen=True)
class MemoryEditApplier:
    """An `EditApplier` that adds facts to a retriever."""

    retriever: Retriever

    def apply(self, rewrites: Sequence[RequestedRewrite]) -> AppliedEdits:
        facts = facts_of(rewrites, len(self.retriever))
        start = time.perf_counter()
        try:
            self.retriever.add_many(facts)
        except InvalidFactError as error:
            raise InvalidEdit(str(error), code=error.code, field=error.field) from error
        return AppliedEdits(time.perf_counter() - start, len(facts), ())

    def expect(self, singles: Sequence[Sequence[RequestedRewrite]]) -> None:
        """Facts are added at once."""

    @contextmanager
    def clean_state(self) -> Iterator[None]:
        try:
            yield
        finally:
            for number in range(len(self.retriever)):
                self.retriever.remove(str(number))


class WeightEditApplier:
    """An `EditApplier` that adds deltas to the model of a workbench."""

    def __init__(self, method: str, workbench: Workbench, folder: Path) -> None:
        self._method = method
        self._workbench = workbench
        self._folder = folder
        self._edits: list[Edit] = []
        self._live: list[Path] = []
        self._names = itertools.count()
        self._expected: list[RequestedRewrite] = []
        self._made: dict[RequestedRewrite, tuple[Path, float]] = {}

    def expect(self, singles: Sequence[Sequence[RequestedRewrite]]) -> None:
        each = METHODS[self._method].compute_each is not None
        self._expected = [rewrites[0] for rewrites in singles if each and len(rewrites) == 1]

    def apply(self, rewrites: Sequence[RequestedRewrite]) -> AppliedEdits:
        start = self._clock()
        live, edits = self._live, [_edit(rewrite) for rewrite in rewrites]
        if METHODS[self._method].live_set:
            live, edits = [], [*self._edits, *edits]
        try:
            if not self._live and len(rewrites) == 1 and rewrites[0] in self._expected:
                output, seconds = self._side_by_side(rewrites[0])
                start = self._clock() - seconds
                self._workbench.admit(output)
            else:
                output = self._next_file()
                self._workbench.compute(self._method, edits, {}, {}, live, output)
        except PatcherError as error:
            # Restore the deltas that were live before.
            self._workbench.serve(self._live)
            seconds = self._clock() - start
            return AppliedEdits(
                seconds, len(rewrites), tuple(f"{r.prompt!r}: {error}" for r in rewrites)
            )
        self._edits, self._live = edits, [*live, output]
        return AppliedEdits(self._clock() - start, len(rewrites), ())

    @contextmanager
    def clean_state(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._edits, self._live = [], []
            self._workbench.serve([])

    def _side_by_side(self, rewrite: RequestedRewrite) -> tuple[Path, float]:
        """The delta of an expected edit, and its share of the time of those made with it.

        Where they cannot be made together, each is made when it is its turn.
        """
        if rewrite not in self._made:
            at = self._expected.index(rewrite)
            group = [r for r in self._expected[at : at + _TOGETHER] if r not in self._made]
            start = self._clock()
            try:
                outputs = self._compute_each(group)
            except PatcherError:
                if len(group) == 1:
                    raise
                group = [rewrite]
                outputs = self._compute_each(group)
            seconds = (self._clock() - start) / len(group)
            self._made |= {r: (output, seconds) for r, output in zip(group, outputs, strict=True)}
        return self._made.pop(rewrite)

    def _compute_each(self, rewrites: Sequence[RequestedRewrite]) -> list[Path]:
        deltas = self._workbench.compute_each(self._method, [_edit(r) for r in rewrites])
        outputs = [self._next_file() for _ in deltas]
        for delta, output in zip(deltas, outputs, strict=True):
            delta.save(output)
        return outputs

    def _clock(self) -> float:
        """Seconds, as if no value had been known."""
        return time.perf_counter() + self._workbench.saved

    def _next_file(self) -> Path:
        return self._folder / f"{next(self._names)}.safetensors"


def _edit(rewrite: RequestedRewrite) -> Edit:
    return Edit(rewrite.prompt, rewrite.subject, rewrite.target_new, rewrite.ground_truth)
