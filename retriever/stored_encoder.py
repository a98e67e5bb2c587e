"""Vectors of texts on disk, so that a restart need not encode them again.

A file for each encoder, named after its fingerprint, of records of one size: a text's hash, its
vector as float16, a checksum keyed with the fingerprint. Records are appended and never changed;
a record that is damaged, or was written by another encoder, is ignored, and its text is encoded
again. The file can be deleted at any time: everything in it can be encoded again.
"""

import fcntl
import hashlib
import logging
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from retriever.encoder import Encoder, Vectors

logger = logging.getLogger(__name__)

Vector = NDArray[np.float16]
Records = NDArray[np.void]

_HASH, _CHECKSUM = 16, 8
_BATCH = 512
_PROGRESS_FROM = 2000
"""Progress is displayed from this many texts on."""
_RECENT = 4096
_CHUNK = 4096


class Fingerprinted(Encoder, Protocol):
    """An encoder that identifies itself by a fingerprint."""

    def fingerprint(self) -> str:
        """Equal for encoders that give equal vectors, in hexadecimal."""
        ...


class StoredEncoder:
    """An encoder that keeps the vectors of the texts it is given in a folder.

    For texts that come again after a restart, such as facts. Vectors are rounded to float16,
    whether new or stored. Thread-safe; several processes may share the folder.
    """

    def __init__(self, encoder: Fingerprinted, folder: Path) -> None:
        self._encoder = encoder
        self._folder = folder
        self._file: EmbeddingFile | None = None
        self._lock = threading.Lock()

    def encode(self, texts: list[str]) -> Vectors:
        """See `Encoder.encode`."""
        digests = [_digest(text) for text in texts]
        with self._lock:
            vectors = self._open().read(digests) if texts else {}
        missing = {d: t for d, t in zip(digests, texts, strict=True) if d not in vectors}
        vectors |= self._encode(list(missing.items()))
        return np.stack([vectors[digest] for digest in digests]).astype(np.float32)

    def _encode(self, missing: Sequence[tuple[bytes, str]]) -> dict[bytes, Vector]:
        encoded: dict[bytes, Vector] = {}
        quiet = len(missing) < _PROGRESS_FROM
        with tqdm(total=len(missing), desc="Encoding", unit="text", disable=quiet) as bar:
            for at in range(0, len(missing), _BATCH):
                batch = missing[at : at + _BATCH]
                rounded = self._encoder.encode([text for _, text in batch]).astype(np.float16)
                new = dict(zip([digest for digest, _ in batch], rounded, strict=True))
                with self._lock:
                    self._open().append(new)
                encoded |= new
                bar.update(len(batch))
        return encoded

    def _open(self) -> "EmbeddingFile":
        if self._file is None:
            fingerprint = self._encoder.fingerprint()
            self._file = EmbeddingFile(self._folder, fingerprint)
        return self._file


class EmbeddingFile:
    """The vectors of one encoder by the hashes of their texts. Not thread-safe."""

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._folder = folder
        self._name = fingerprint[:32]
        self._key = hashlib.sha256(fingerprint.encode()).digest()
        self._path: Path | None = None
        self._kind = np.dtype(np.void)
        self._digests: NDArray[np.bytes_] = np.zeros(0, f"S{_HASH}")
        self._rows: NDArray[np.int64] = np.zeros(0, np.int64)
        self._recent: dict[bytes, int] = {}
        self._read = 0
        self._load()

    def read(self, digests: Sequence[bytes]) -> dict[bytes, Vector]:
        """The stored vectors of these digests; others are left out."""
        rows = {digest: row for digest in digests if (row := self._row(digest)) is not None}
        if not rows or self._path is None:
            return {}
        try:
            whole = self._path.stat().st_size // self._kind.itemsize
            records = np.memmap(self._path, self._kind, "r", shape=(whole,))[list(rows.values())]
        except (OSError, ValueError, IndexError) as error:
            logger.warning("%s cannot be read, facts are encoded again: %s", self._path, error)
            return {}
        stored = [record["digest"].tobytes() for record in records]
        return {d: r["vector"] for d, r in zip(stored, records, strict=True) if d in rows}

    def append(self, vectors: Mapping[bytes, Vector]) -> None:
        """Store new vectors; if that fails, log a warning and go on."""
        if self._path is None:
            self._use(len(next(iter(vectors.values()))))
        records = np.zeros(len(vectors), self._kind)
        records["digest"] = np.frombuffer(b"".join(vectors), np.uint8).reshape(-1, _HASH)
        records["vector"] = list(vectors.values())
        records["checksum"] = self._checksums(records)
        try:
            first = self._write(records.tobytes())
        except OSError as error:
            logger.warning("Vectors of facts are not kept for the next start: %s", error)
            return
        self._recent |= {digest: first + at for at, digest in enumerate(vectors)}
        if len(self._recent) > _RECENT:
            self._sort()

    def _use(self, dimension: int) -> None:
        self._path = self._folder / f"{self._name}-{dimension}.vectors"
        parts = [
            ("digest", np.uint8, _HASH),
            ("checksum", np.uint8, _CHECKSUM),
            ("vector", np.float16, dimension),
        ]
        self._kind = np.dtype(parts)

    def _write(self, data: bytes) -> int:
        """Append whole records after those that are whole; returns the number of the first."""
        assert self._path is not None  # noqa: S101
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            first = file.seek(0, os.SEEK_END) // self._kind.itemsize
            # A killed process may have left a half-written record.
            file.truncate(first * self._kind.itemsize)
            file.write(data)
        return first

    def _load(self) -> None:
        paths = sorted(self._folder.glob(f"{self._name}-*.vectors"))
        dimension = paths[0].stem.rpartition("-")[2] if paths else ""
        if not dimension.isdecimal():
            return
        self._use(int(dimension))
        damaged = 0
        try:
            with paths[0].open("r+b") as file:
                while data := file.read(_CHUNK * self._kind.itemsize):
                    whole = len(data) // self._kind.itemsize
                    records = np.frombuffer(data, self._kind, whole)
                    for at in self._take_in(records):
                        self._blank(file, at)
                        damaged += 1
                    self._read += whole
        except OSError as error:
            logger.warning("%s cannot be read, facts are encoded again: %s", paths[0], error)
        self._sort()
        if damaged:
            logger.warning(
                "%s: %d vectors are damaged or of another encoder; their texts are encoded again.",
                paths[0],
                damaged,
            )

    def _take_in(self, records: Records) -> list[int]:
        """Register valid records; return the rows of damaged ones."""
        valid = (self._checksums(records) == records["checksum"]).all(axis=1)
        for at in np.flatnonzero(valid):
            self._recent[records["digest"][at].tobytes()] = self._read + int(at)
        damaged = np.flatnonzero(~valid & (records["checksum"] != 0).any(axis=1))
        return [self._read + int(at) for at in damaged]

    def _blank(self, file: BinaryIO, row: int) -> None:
        """Overwrite a damaged record with zeros, so that it is skipped from now on."""
        here = file.tell()
        file.seek(row * self._kind.itemsize)
        file.write(bytes(self._kind.itemsize))
        file.seek(here)

    def _checksums(self, records: Records) -> NDArray[np.uint8]:
        sums = [
            hashlib.blake2b(
                record["digest"].tobytes() + record["vector"].tobytes(),
                digest_size=_CHECKSUM,
                key=self._key,
            ).digest()
            for record in records
        ]
        return np.frombuffer(b"".join(sums), np.uint8).reshape(-1, _CHECKSUM)

    def _sort(self) -> None:
        """Move the recent records into the sorted arrays, which take a tenth of the memory."""
        digests = np.concatenate([self._digests, np.array(list(self._recent), f"S{_HASH}")])
        rows = np.concatenate([self._rows, np.array(list(self._recent.values()), np.int64)])
        order = np.argsort(digests, kind="stable")
        self._digests, self._rows, self._recent = digests[order], rows[order], {}

    def _row(self, digest: bytes) -> int | None:
        if digest in self._recent:
            return self._recent[digest]
        # NumPy takes zeros at the end for padding, so compare without them.
        key = digest.rstrip(b"\0")
        at = int(np.searchsorted(self._digests, np.bytes_(key)))
        present = at < len(self._digests) and self._digests[at] == key
        return int(self._rows[at]) if present else None


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_HASH).digest()
