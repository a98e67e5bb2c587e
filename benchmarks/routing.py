"""What memory edits cost requests: `python -m benchmarks routing`.

Memories of several sizes hold facts about invented people. A few thousand vectors are real
embeddings of prompts. The others are mixtures of two of these with a little noise, because encoding
a million texts takes hours on two cores. Mixtures are harder to distinguish than real embeddings.
Requests are about people without facts, and about no person.
"""

import argparse
import gc
import os
import statistics
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]  # it brings no types

from benchmarks import machine, people, results
from benchmarks.spread import spread
from retriever import SentenceEncoder
from retriever.encoder import Vectors
from retriever.index import IndexLimits
from retriever.index.free_memory import THREAD_NAME, release_memory
from retriever.memory import Memory
from retriever.text import normalise, words

SIZES = (1_000, 10_000, 100_000, 1_000_000)
REAL = 4096
PART = 20_000
CANDIDATES = 8
PROBES = 200


def add_parser(commands: Any) -> None:
    """Add `routing` to the command line."""
    parser = commands.add_parser("routing", help="time and memory of routing past memory edits")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="edits in memory")
    parser.add_argument("--requests", type=int, default=300, help="requests of each measurement")
    parser.add_argument("--quick", action="store_true", help="small memories, few requests")
    results.add_output(parser)
    parser.set_defaults(func=run)


def run(options: argparse.Namespace) -> None:
    """Measure, print, and write the result."""
    sizes, count = options.sizes, options.requests
    if options.quick:
        sizes, count = (1_000, 30_000), 50
    encoder = SentenceEncoder(cache_size=0)
    real = encoder.encode(people.prompts(REAL // 8 if options.quick else REAL))
    result: dict[str, Any] = {
        "machine": machine.describe("cpu"),
        "load_average": os.getloadavg(),
        "real_vectors": len(real),
        "limits": repr(IndexLimits()),
        "sizes": {size: measure(size, count, encoder, real) for size in sizes},
    }
    result["load_average_after"] = os.getloadavg()
    results.write(result, options.output, "routing-cpu.json")


def measure(size: int, count: int, encoder: SentenceEncoder, real: Vectors) -> dict[str, Any]:
    """Size and build time of one memory, and the times of requests and of changes."""
    memory, building = _filled(size, real)
    state = memory.index
    probes = np.concatenate(list(mixtures(real, PROBES, seed=size + 1)))
    return {
        "index": {"kind": state.kind, "effort": state.effort},
        "bytes_per_edit": building.pop("bytes") / size,
        "seconds": building,
        "recall_at_1": memory.recall(probes),
        **_requests(memory, people.requests(count), encoder),
        **_changes(memory, size, probes[:count]),
    }


def mixtures(real: Vectors, count: int, seed: int) -> Iterator[Vectors]:
    """Unit vectors between two of the real ones, with noise, in parts of at most PART."""
    generator = np.random.default_rng(seed)
    for at in range(0, count, PART):
        number = min(PART, count - at)
        one, other = (real[generator.integers(0, len(real), number)] for _ in range(2))
        share = generator.uniform(0.55, 0.85, (number, 1))
        noise = generator.normal(size=one.shape) * 0.35 / np.sqrt(one.shape[1])
        mixed = share * one + (1 - share) * other + noise
        yield (mixed / np.linalg.norm(mixed, axis=1, keepdims=True)).astype(np.float32)


def _filled(size: int, real: Vectors) -> tuple[Memory, dict[str, float]]:
    """A memory with a finished index, its bytes, and the seconds to build it."""
    before = _resident()
    memory = Memory()
    begun = time.perf_counter()
    making = 0.0
    facts = people.facts(size)
    for vectors in mixtures(real, size, seed=size):
        start = time.perf_counter()
        part = [next(facts) for _ in range(len(vectors))]
        making += time.perf_counter() - start
        memory.add(part, vectors)
    added = time.perf_counter()
    memory.settle()
    settled = time.perf_counter()
    del vectors, part
    return memory, {
        "bytes": _resident() - before,
        "add": added - begun - making,
        "index_after": settled - added,
    }


@dataclass(frozen=True)
class RoutingTime:
    """Seconds of one request, those of the encoder, and whether the memory was searched."""

    all: float
    encoder: float
    searched: bool


def _requests(memory: Memory, texts: Sequence[str], encoder: SentenceEncoder) -> dict[str, Any]:
    """Times of requests out of scope, alternating: with the gate, without it, the encoder alone."""
    on, off, alone = [], [], []
    for text in texts:
        on.append(_route(memory, text, encoder, gate=True))
        off.append(_route(memory, text, encoder, gate=False))
        start = time.perf_counter()
        encoder.encode([text])
        alone.append(time.perf_counter() - start)
    encoding = statistics.median(alone)
    return {
        "milliseconds": {
            "gate_on": _spread_ms(r.all for r in on),
            "gate_on_while_shut": _spread_ms(r.all for r in on if not r.searched),
            "gate_off": _spread_ms(r.all for r in off),
            "gate_off_over_encoder": _spread_ms(r.all - r.encoder for r in off),
            "encoder": _spread_ms(alone),
        },
        "gate_opened": sum(r.searched for r in on) / len(on),
        "ratio_to_encoder": {
            "gate_on": statistics.median(r.all for r in on) / encoding,
            "gate_off": statistics.median(r.all for r in off) / encoding,
        },
    }


def _route(memory: Memory, text: str, encoder: SentenceEncoder, gate: bool) -> RoutingTime:
    """The retriever's steps before the classifier, timed."""
    start = time.perf_counter()
    parts = words(normalise(text))
    named = memory.mentions(parts)
    searched = not gate or bool(named) or memory.may_mention(parts)
    encoding = time.perf_counter()
    encoded = encoding
    if searched:
        vectors = encoder.encode([text])
        encoded = time.perf_counter()
        memory.nearest_of_all(vectors, CANDIDATES)
    return RoutingTime(time.perf_counter() - start, encoded - encoding, searched)


def _changes(memory: Memory, size: int, vectors: Vectors) -> dict[str, Any]:
    """Times of adding and removing edits; checks that each takes effect at once."""
    adding, removing = [], []
    new = islice(people.facts(size + len(vectors)), size, None)
    for fact, vector in zip(new, vectors, strict=True):
        start = time.perf_counter()
        memory.add([fact], vector.reshape(1, -1))
        added = time.perf_counter()
        adding.append(added - start)
        nearest = memory.nearest_of_all(vector.reshape(1, -1), 1)
        if nearest[0][0] != fact:
            raise RuntimeError(f"{fact.id} was added and is not found.")
        start = time.perf_counter()
        memory.remove(fact.id)
        removing.append(time.perf_counter() - start)
        if memory.nearest_of_all(vector.reshape(1, -1), 1)[0][0] == fact:
            raise RuntimeError(f"{fact.id} was removed and is found.")
    return {"milliseconds_add": _spread_ms(adding), "milliseconds_delete": _spread_ms(removing)}


def _spread_ms(seconds: Iterable[float]) -> dict[str, float]:
    milliseconds = spread(1000.0 * value for value in seconds) or {}
    return {name: round(value, 4) for name, value in milliseconds.items()}


def _resident() -> int:
    """Resident memory of the process after the allocator has returned what it can."""
    gc.collect()
    release_memory([])
    for thread in threading.enumerate():
        if thread.name == THREAD_NAME:
            thread.join()
    held: int = psutil.Process().memory_info().rss
    return held
