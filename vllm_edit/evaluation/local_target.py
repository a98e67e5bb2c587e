"""Evaluates a model in this process, with plain Transformers instead of a server."""

import itertools
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from retriever import Fact, InvalidFactError, Retriever, Rewrite
from vllm_edit.domain.errors import InvalidData, InvalidEdit
from vllm_edit.editor.loaded import Loaded
from vllm_edit.editor.workbench import Options, Workbench
from vllm_edit.evaluation.local_model import LocalModel
from vllm_edit.evaluation.record import RequestedRewrite
from vllm_edit.evaluation.target import AppliedEdits, EditableModel
from vllm_edit.memory.build import make_retriever
from vllm_edit.settings import Settings
from vllm_edit.store import Store
from weight_patchers import METHODS, Edit, PatcherError

IKE = "ike"


@dataclass(frozen=True)
class LocalTarget:
    """The checkpoint in folder `model` in plain Transformers, in float32 on `device`.

    `settings` are those of a server; statistics are kept in its folder.
    """

    model: Path
    device: str
    settings: Settings

    @property
    def name(self) -> str:
        return f"{self.model.name} in Transformers on {self.device}"

    @contextmanager
    def open(self, method: str) -> Iterator[EditableModel]:
        """A new copy of the model. Raises InvalidData for a method that needs a server."""
        if method != IKE and method not in METHODS:
            raise InvalidData(
                f"{method} needs a server; without one there are {IKE}, {', '.join(METHODS)}.",
                field="methods",
            )
        with tempfile.TemporaryDirectory(prefix="vllm-edit-evaluate-") as folder:
            options = Options(self.model, self.settings.folder / "statistics", None, self.device)
            workbench = Workbench(options)
            loaded = workbench.load()
            retriever = self._retriever(loaded, Path(folder))
            model = LocalModel(
                loaded.model, loaded.tokenizer, lambda text: _routed(retriever, text)
            )
            if method == IKE:
                yield EditableModel(model, MemoryEditApplier(retriever), os.getpid())
            else:
                yield EditableModel(
                    model, WeightEditApplier(method, workbench, Path(folder)), os.getpid()
                )

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
        number = len(self.retriever)
        facts = [
            Fact(str(number + at), r.subject, r.prompt, r.target_new, r.ground_truth)
            for at, r in enumerate(rewrites)
        ]
        start = time.perf_counter()
        try:
            self.retriever.add_many(facts)
        except InvalidFactError as error:
            raise InvalidEdit(str(error), code=error.code, field=error.field) from error
        return AppliedEdits(time.perf_counter() - start, len(facts), ())

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
        self._live: list[Path] = []
        self._names = itertools.count()

    def apply(self, rewrites: Sequence[RequestedRewrite]) -> AppliedEdits:
        output = self._folder / f"{next(self._names)}.safetensors"
        start = time.perf_counter()
        try:
            edits = [Edit(r.prompt, r.subject, r.target_new) for r in rewrites]
            self._workbench.compute(self._method, edits, {}, {}, self._live, output)
        except PatcherError as error:
            # Restore the deltas that were live before.
            self._workbench.serve(self._live)
            seconds = time.perf_counter() - start
            return AppliedEdits(
                seconds, len(rewrites), tuple(f"{r.prompt!r}: {error}" for r in rewrites)
            )
        self._live.append(output)
        return AppliedEdits(time.perf_counter() - start, len(rewrites), ())

    @contextmanager
    def clean_state(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._live.clear()
            self._workbench.serve([])


def _routed(retriever: Retriever, text: str) -> str:
    """The text after the facts that concern it."""
    decision = retriever.route_without_hops(text)
    if isinstance(decision, Rewrite) and decision.text is not None:
        return decision.text
    return text
