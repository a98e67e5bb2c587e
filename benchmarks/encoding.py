"""Encoder and scope classifier in bfloat16 against float32: `python -m benchmarks encoding`.

Both dtypes process the same texts in turn, without caches.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

from benchmarks import machine, people, results
from retriever import SentenceEncoder
from retriever.encoder import Dtype
from retriever.scope import ScopeClassifier
from retriever.scope.classifier_input import MASK
from retriever.scope.files import SHIPPED

DTYPES: tuple[Dtype, ...] = get_args(Dtype)
BATCH = 64
CANDIDATES = 8
FACT = f"The employer of {MASK} is"

Work = Callable[[Sequence[str]], object]


def add_parser(commands: Any) -> None:
    """Add `encoding` to the command line."""
    parser = commands.add_parser("encoding", help="encoder and classifier in bfloat16")
    parser.add_argument("--requests", type=int, default=100, help="calls of each measurement")
    results.add_output(parser)
    parser.set_defaults(func=run)


def run(options: argparse.Namespace) -> None:
    """Measure, print, and write the result."""
    texts = people.requests(options.requests)
    result = {
        "machine": machine.describe("cpu"),
        "load_average": os.getloadavg(),
        "encoder, one text": compare(texts, 1, {d: _encoder(d) for d in DTYPES}),
        f"encoder, {BATCH} texts": compare(texts, BATCH, {d: _encoder(d) for d in DTYPES}),
        "classifier, one fact": compare(texts, 1, {d: _classifier(d) for d in DTYPES}),
        f"classifier, {CANDIDATES} facts": compare(
            texts, CANDIDATES, {d: _classifier(d) for d in DTYPES}
        ),
    }
    results.write(result, options.output, "encoding-cpu.json")


def compare(texts: Sequence[str], size: int, works: Mapping[Dtype, Work]) -> dict[str, Any]:
    """Medians over all texts, in calls of `size` texts, and their ratios to float32."""
    taken: dict[Dtype, list[float]] = {dtype: [] for dtype in works}
    for work in works.values():
        work(texts[:size])
    for at in range(len(texts)):
        batch = [texts[(at + i) % len(texts)] for i in range(size)]
        for dtype, work in works.items():
            start = time.perf_counter()
            work(batch)
            taken[dtype].append(time.perf_counter() - start)
    medians = {dtype: statistics.median(seconds) for dtype, seconds in taken.items()}
    return {
        "milliseconds": {dtype: round(1000 * value, 3) for dtype, value in medians.items()},
        "ratio_to_float32": {
            dtype: round(value / medians["float32"], 3) for dtype, value in medians.items()
        },
    }


def _encoder(dtype: Dtype) -> Work:
    encoder = SentenceEncoder(dtype=dtype, cache_size=0)
    return lambda texts: encoder.encode([*texts])


def _classifier(dtype: Dtype) -> Work:
    classifier = ScopeClassifier(SHIPPED, dtype=dtype, cache_size=0)
    return lambda texts: classifier.scores([(text, FACT) for text in texts])
