"""Random changes of one small parameter."""

import torch

from weight_patchers import Change, Delta, Dense, LowRank, ParameterChange

ROWS, COLUMNS = 3, 5


def random_change(seed: int, rank: int, transposed: bool) -> ParameterChange:
    """Of rank `rank`; 0 stands for a dense one. The checkpoint's tensor is [ROWS, COLUMNS]."""
    generator = torch.Generator().manual_seed(seed)
    d_out, d_in = (COLUMNS, ROWS) if transposed else (ROWS, COLUMNS)
    if rank == 0:
        return Dense(torch.randn(d_out, d_in, generator=generator), transposed)
    u = torch.randn(d_out, rank, generator=generator)
    return LowRank(u, torch.randn(d_in, rank, generator=generator), transposed)


def delta(change: Change, name: str = "w") -> Delta:
    return Delta("any", "ft-l", {}, {name: change}, ())
