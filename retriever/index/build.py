"""Builds a new structure in the background while the old one is searched."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retriever.encoder import Vectors
from retriever.index.limits import Kind
from retriever.index.segment import Contents, Flags, Numbers, Segment
from retriever.index.structure import (
    Rows,
    Structure,
    chunks,
    faiss,
    flat,
    graph,
    lists,
    sample_size,
)

Hashes = NDArray[np.uint64]

_PROBES = 128
_NEAR = 0.8
"""Cosine of a probe to one stored vector; the rest of the probe is another stored vector."""
_TIE = 1e-4


class Cancelled(Exception):
    """The structure is no longer needed."""


@dataclass(frozen=True)
class Part:
    """A segment when building began: its keys at `slots`, and which of them were visible."""

    segment: Segment
    slots: NDArray[np.intp]
    visible: Flags

    @classmethod
    def of(cls, segment: Segment) -> "Part":
        slots = np.flatnonzero(~segment.removed)
        return cls(segment, slots, segment.visible[slots])


@dataclass(frozen=True)
class Plan:
    """What to build from which parts. With `extend`, the first part's structure grows."""

    kind: Kind
    parts: tuple[Part, ...]
    extend: bool
    recall: float


class Build:
    """One build, on a thread of its own that uses one core."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.stop = threading.Event()
        self.result: Future[Segment] = Future()
        thread = threading.Thread(
            target=_run, args=(plan, self.stop, self.result), name="index-build"
        )
        thread.start()


def _run(plan: Plan, stop: threading.Event, result: Future[Segment]) -> None:
    faiss.omp_set_num_threads(1)  # of this thread
    try:
        result.set_result(build(plan, stop))
    except BaseException as error:  # noqa: BLE001 - raised again when the result is read
        result.set_exception(error)


def build(plan: Plan, stop: threading.Event) -> Segment:
    """The segment that takes the parts' place. Raises Cancelled once `stop` is set."""
    hashes = _hashes(plan.parts, stop)
    first = plan.parts[0]
    if plan.extend:
        structure = first.segment.structure.copy()
        row_hashes = np.zeros(len(structure), np.uint64)
        row_hashes[first.segment.row_of[first.slots]] = hashes[: len(first.slots)]
    else:
        structure = _empty(plan, len(hashes))
        row_hashes = np.zeros(0, np.uint64)
    row_of, new = _rows_of(hashes, row_hashes)
    _add(structure, plan.parts, new, stop)
    contents = Contents(
        keys=np.concatenate([part.segment.keys[part.slots] for part in plan.parts]),
        row_of=row_of,
        visible=np.concatenate([part.visible for part in plan.parts]),
        removed=np.zeros(len(row_of), np.bool_),
    )
    segment = Segment(structure.fitted(), contents)
    _tune(segment, plan.recall, stop)
    return segment


def _empty(plan: Plan, size: int) -> Structure:
    dimension = plan.parts[0].segment.structure.index.d
    if plan.kind == "exact":
        return flat(dimension)
    if plan.kind == "graph":
        return graph(dimension)
    generator = np.random.default_rng(0)
    chosen = np.sort(generator.choice(size, sample_size(size), replace=False))
    return lists(np.concatenate(list(_vectors(plan.parts, chosen))), size)


def _hashes(parts: Sequence[Part], stop: threading.Event) -> Hashes:
    """Equal for equal vectors; different ones collide with a chance of 1 in 2^63."""
    size = sum(len(part.slots) for part in parts)
    dimension = parts[0].segment.structure.index.d
    factors = np.random.default_rng(0).integers(1, 2**63, dimension, dtype=np.uint64) * 2 + 1
    pieces = [
        (vectors.view(np.uint32).astype(np.uint64) * factors).sum(axis=1, dtype=np.uint64)
        for vectors in _watched(_vectors(parts, np.arange(size)), stop)
    ]
    # No vector hashes to 0, which marks rows without keys.
    hashes: Hashes = np.concatenate(pieces) | np.uint64(1)
    return hashes


def _rows_of(hashes: Hashes, row_hashes: Hashes) -> tuple[Numbers, Rows]:
    """The row of each vector, and which vectors to add to the rows that have `row_hashes`."""
    together = np.concatenate([row_hashes, hashes])
    _, first, inverse = np.unique(together, return_index=True, return_inverse=True)
    new = np.sort(first[first >= len(row_hashes)])
    rows = np.where(first < len(row_hashes), first, len(row_hashes) + np.searchsorted(new, first))
    return rows[inverse[len(row_hashes) :]].astype(np.int32), new - len(row_hashes)


def _add(structure: Structure, parts: Sequence[Part], new: Rows, stop: threading.Event) -> None:
    for vectors in _watched(_vectors(parts, new), stop):
        structure.add(vectors)


def _vectors(parts: Sequence[Part], chosen: Rows) -> Iterator[Vectors]:
    """The vectors at the `chosen` slots, ascending and numbered across the parts, in pieces."""
    begin = 0
    for part in parts:
        end = begin + len(part.slots)
        here = chosen[np.searchsorted(chosen, begin) : np.searchsorted(chosen, end)] - begin
        for piece in chunks(len(here)):
            yield part.segment.vectors(part.slots[here[piece]])
        begin = end


def _watched(pieces: Iterator[Vectors], stop: threading.Event) -> Iterator[Vectors]:
    """The same pieces. Raises Cancelled when `stop` is set or the program ends."""
    for piece in pieces:
        if stop.is_set() or not threading.main_thread().is_alive():
            raise Cancelled
        yield piece


def _tune(segment: Segment, recall: float, stop: threading.Event) -> None:
    """Raise the effort of a search until few enough probes miss their nearest vector."""
    structure = segment.structure
    if structure.kind == "exact" or not len(structure):
        return
    probes = probe_vectors(segment, _PROBES)
    best = [
        structure.search(probe.reshape(1, -1), 1, None, True)[0][0, 0]
        for probe in _watched(iter(probes), stop)
    ]
    while structure.effort < structure.most():
        scores = structure.search(probes, 1, None, False)[0][:, 0]
        if float(np.mean(scores >= np.array(best) - _TIE)) >= recall:
            return
        structure.effort += structure.effort // 2


def probe_vectors(segment: Segment, count: int) -> Vectors:
    """Queries that are near to one stored vector and less so to another."""
    generator = np.random.default_rng(1)
    rows = len(segment.structure)
    near, far = (segment.structure.rows(generator.integers(0, rows, count)) for _ in range(2))
    mixed = _NEAR * near + (1 - _NEAR**2) ** 0.5 * far
    normal: Vectors = mixed / np.maximum(np.linalg.norm(mixed, axis=1, keepdims=True), 1e-9)
    return normal.astype(np.float32)
