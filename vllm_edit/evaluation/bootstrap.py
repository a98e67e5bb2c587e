"""Confidence intervals of means over records."""

from collections.abc import Sequence

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95


def interval(values: Sequence[float], seed: int) -> tuple[float, float]:
    """The 95 % interval of the mean by the percentile bootstrap (Efron 1979)."""
    array = np.asarray(values, dtype=np.float64)
    if (array == array[0]).all():
        return float(array[0]), float(array[0])
    rng = np.random.default_rng(seed)
    means = array[rng.integers(0, len(array), (RESAMPLES, len(array)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
