"""Files of second moments, one per layer, named by what identifies them."""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from weight_patchers.errors import UnusableStatistics


@dataclass(frozen=True)
class Entry:
    """What identifies a stored moment, and its standard error.

    It belongs to a layer of a base and to the keys of `count` tokens of a text, computed in
    `dtype`. `whole` is true if these are all the tokens of the text.
    """

    fingerprint: str
    layer: int
    source: str
    count: int
    dtype: str
    error: float
    whole: bool

    @property
    def name(self) -> str:
        """The file's name, made of the first five fields."""
        source = _plain(self.source)
        return f"{_stem(self.fingerprint, self.layer)}-{source}-{self.count}-{self.dtype}{_SUFFIX}"

    def serves(self, source: str | None, count: int) -> bool:
        """Whether it is of that source (None: any) and large enough, or of the whole text."""
        return (source is None or self.source == source) and (self.count >= count or self.whole)

    @classmethod
    def read(cls, path: Path) -> Self:
        """The file's entry. Raises UnusableStatistics when it is damaged or of another layout."""
        try:
            with safe_open(path, framework="pt") as file:
                values = file.metadata() or {}
            return cls(
                fingerprint=values["fingerprint"],
                layer=int(values["layer"]),
                source=values["source"],
                count=int(values["count"]),
                dtype=values["dtype"],
                error=float(values["error"]),
                whole=values["whole"] == "True",
            )
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise UnusableStatistics(f"{path} cannot be read ({error}): delete it") from error


_SUFFIX = ".safetensors"


def save_moment(folder: Path, entry: Entry, moment: Tensor) -> None:
    """Write the moment, whole or not at all."""
    metadata = {name: str(value) for name, value in asdict(entry).items()}
    write(folder / entry.name, {"moment": moment.contiguous()}, metadata)


def load_moment(path: Path) -> Tensor:
    """The moment in the file. Raises UnusableStatistics when it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            moment: Tensor = file.get_tensor("moment")
    except (SafetensorError, OSError) as error:
        raise UnusableStatistics(f"{path} cannot be read ({error}): delete it") from error
    return moment


def find(
    folder: Path,
    fingerprint: str,
    layers: Sequence[int],
    source: str | None,
    dtype: str,
    count: int,
) -> dict[int, Entry] | None:
    """The largest stored sample of each layer, all from one source (None: from any).

    Each has at least `count` tokens, or its source's whole text. None when a layer has none.
    Raises UnusableStatistics when a file is there but damaged or of another model.
    """
    by_source: dict[str, dict[int, Entry]] = {}
    for layer in layers:
        for entry in _entries(folder, fingerprint, layer, dtype):
            if entry.serves(source, count):
                entries = by_source.setdefault(entry.source, {})
                entries[layer] = max(entries.get(layer, entry), entry, key=lambda e: e.count)
    complete = [entries for entries in by_source.values() if set(entries) == set(layers)]
    return max(complete, key=lambda entries: min(e.count for e in entries.values()), default=None)


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, whole or not at all, even if other processes write the same one.

    Removes the temporary files of killed processes.
    Raises UnusableStatistics when the file cannot be written.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f"{path.name}.*.tmp"):
            if not Path("/proc", left.suffixes[-2].removeprefix(".")).exists():
                left.unlink(missing_ok=True)
        save_file(dict(tensors), temporary, metadata=dict(metadata))
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            temporary.unlink()
        raise UnusableStatistics(
            f"{path} cannot be written ({error}): make room or name another folder"
        ) from error


def _entries(folder: Path, fingerprint: str, layer: int, dtype: str) -> Iterator[Entry]:
    """The stored moments of a layer, from every text and of every size.

    Raises UnusableStatistics when a file is damaged, or not what its name says.
    """
    for path in sorted(folder.glob(f"{_stem(fingerprint, layer)}-*-[0-9]*-{dtype}{_SUFFIX}")):
        entry = Entry.read(path)
        if (entry.name, entry.fingerprint) != (path.name, fingerprint):
            raise UnusableStatistics(f"{path} belongs to another model or text: delete it")
        yield entry


def _stem(fingerprint: str, layer: int) -> str:
    return f"{fingerprint[:16]}-layer{layer}"


def _plain(source: str) -> str:
    """A source's name for file names; a digest is added if characters were replaced."""
    plain = re.sub(r"[^\w.-]", "-", source, flags=re.ASCII)[:80]
    if plain == source:
        return source
    return f"{plain}-{hashlib.sha256(source.encode()).hexdigest()[:8]}"
