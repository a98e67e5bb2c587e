"""Statistics of the keys: how they are sampled from text, summed, kept on disk and found again."""

from weight_patchers.statistics.second_moments import (
    Statistics,
    collect,
    load,
    obtain,
    sample_size,
)

__all__ = ["Statistics", "collect", "load", "obtain", "sample_size"]
