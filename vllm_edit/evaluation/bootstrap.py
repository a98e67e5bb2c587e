"""Confidence intervals of means over records."""

from collections.abc import Sequence

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95


def interval(values: Sequence[float], seed: int) -> tuple[float, float]:
    """The percentile bootstrap's 95 % interval of the mean (Efron 1979); seeded."""
    found = np.asarray(values, dtype=np.float64)
    if (found == found[0]).all():
        return float(found[0]), float(found[0])
    rng = np.random.default_rng(seed)
    means = found[rng.integers(0, len(found), (RESAMPLES, len(found)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
