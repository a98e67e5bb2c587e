"""The files of computed deltas, found by the edits they serve."""

import asyncio
import hashlib
import logging
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vllm_edit.domain.errors import ComputeFailed
from vllm_edit.ledger import SharedDeltas
from vllm_edit.processes.private_folder import make_private
from weight_patchers import Delta, PatcherError, fingerprint

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DeltaKey:
    """The edits that one delta serves: one on its own, or those of a batch, or of a method in a
    variant, that are in effect. ``group`` is the edit, the batch or the method."""

    group: str
    edit_ids: tuple[str, ...]

    @property
    def file_name(self) -> str:
        if self.edit_ids == (self.group,):
            return f"{self.group}.safetensors"
        digest = hashlib.sha256("\n".join(self.edit_ids).encode()).hexdigest()[:16]
        return f"{self.group}.{digest}.safetensors"


class DeltaStore:
    """A folder of delta files for the base checkpoint in folder ``model``.

    A file stays as long as every edit in it may come into effect again. It is removed when one of
    them has ended and no computation may read it; files of batches in which no edit is left
    are removed at the next start at the latest. Lives on one event loop.

    With ``shared`` the folder is a cache of what several servers share. A file that is missing or
    different there is not used. A file removed here is removed there with the next load.
    """

    def __init__(self, folder: Path, model: Path, shared: SharedDeltas | None = None) -> None:
        self._folder = folder
        self._model = model
        self._shared = shared
        self._unwanted: set[str] = set()
        self._removing = asyncio.Lock()
        self._base: str | None = None
        self._known: set[DeltaKey] = set()
        self._ended: set[DeltaKey] = set()
        self._readers = 0

    def path(self, key: DeltaKey) -> Path:
        """Where the delta is, or is to be written; the folder is there."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        make_private(self._folder)
        self._known.add(key)
        return self._folder / key.file_name

    async def load(self, key: DeltaKey) -> Delta | None:
        """The stored delta, or None when there is none that can be used.

        Raises:
            WrongBase: it was computed for another base.
            StoreError: it cannot be found out.
        """
        path = self.path(key)
        self._ended.discard(key)
        if self._shared is not None:
            await self._remove_shared(self._shared)
            if not await asyncio.to_thread(self._shared.get, key.file_name, path):
                return None
        if not path.exists():
            return None
        try:
            if self._base is None:
                self._base = await asyncio.to_thread(fingerprint, self._model)
            delta = await asyncio.to_thread(Delta.load, path)
        except PatcherError as error:
            logger.warning("%s is computed again: %s", key.group, error)
            return None
        delta.require_base(self._base)
        return delta

    async def load_new(self, key: DeltaKey) -> Delta:
        """The delta that was just written for this base.

        Raises:
            ComputeFailed: it cannot be used.
            StoreError: it cannot be shared.
        """
        try:
            delta = await asyncio.to_thread(Delta.load, self.path(key))
        except PatcherError as error:
            raise ComputeFailed(str(error), code=error.code) from error
        if self._shared is not None:
            await self._remove_shared(self._shared)
            await asyncio.to_thread(self._shared.put, key.file_name, self.path(key))
        self._base = delta.fingerprint
        return delta

    def remove(self, key: DeltaKey) -> None:
        """Remove the file, so that the delta is computed again when it is needed."""
        self._unlink(key)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Within this context no file is removed."""
        self._readers += 1
        try:
            yield
        finally:
            self._readers -= 1
            self._remove_ended()

    def remove_ended(self, edit_ids: Collection[str]) -> None:
        """Remove the files with any of these edits in them, which have ended."""
        ended = frozenset(edit_ids)
        self._ended |= {key for key in self._known if not ended.isdisjoint(key.edit_ids)}
        self._remove_ended()

    def remove_unread(self, keys: Iterable[DeltaKey]) -> None:
        """Remove files once no computation may read them, unless they are loaded till then."""
        self._ended |= set(keys)
        self._remove_ended()

    async def keep_only(self, groups: Collection[str]) -> None:
        """Remove every file that serves none of these batches or edits, and unfinished ones.

        For the leader, who knows all edits there are; may raise StoreError.
        """
        for path in [*self._folder.glob("*.safetensors"), *self._folder.glob(".*.tmp")]:
            if group_of(path.name) not in groups:
                path.unlink(missing_ok=True)
        if self._shared is not None:
            names = await asyncio.to_thread(self._shared.names)
            self._unwanted |= {name for name in names if group_of(name) not in groups}
            await self._remove_shared(self._shared)

    def _remove_ended(self) -> None:
        if self._readers:
            return
        for key in self._ended:
            self._unlink(key)
        self._known -= self._ended
        self._ended.clear()

    def _unlink(self, key: DeltaKey) -> None:
        (self._folder / key.file_name).unlink(missing_ok=True)
        if self._shared is not None:
            self._unwanted.add(key.file_name)

    async def _remove_shared(self, shared: SharedDeltas) -> None:
        """Remove files that no edit needs from the shared place."""
        async with self._removing:
            if unwanted := frozenset(self._unwanted):
                await asyncio.to_thread(shared.remove, unwanted)
                self._unwanted -= unwanted


def group_of(file_name: str) -> str:
    """The batch, the edit or the method that a file of this name serves."""
    return file_name.partition(".")[0]
