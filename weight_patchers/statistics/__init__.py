"""Statistics of the keys: sampled from text, summed, and stored on disk."""

from weight_patchers.statistics.second_moments import (
    Statistics,
    collect,
    dtype_name,
    load,
    obtain,
    sample_size,
)

__all__ = ["Statistics", "collect", "dtype_name", "load", "obtain", "sample_size"]
