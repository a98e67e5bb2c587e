"""Running mean and standard deviation of vectors."""

import torch
from torch import Tensor, nn

from weight_patchers.errors import UntrainedEditor

_EPSILON = 1e-7


class Moments(nn.Module):
    """Of each coordinate of the vectors seen so far, by Welford's sums, float64.

    Batches are merged by the parallel form of Chan et al. (1983), so the result does not depend on
    how vectors were batched, up to rounding.
    """

    count: Tensor
    mean: Tensor
    squares: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(width, dtype=torch.float64))
        self.register_buffer("squares", torch.zeros(width, dtype=torch.float64))

    def observe(self, vectors: Tensor) -> None:
        """Take in vectors [n, width]."""
        new = vectors.detach().double()
        if not len(new):
            return
        mean = new.mean(0)
        away = mean - self.mean
        total = self.count + len(new)
        self.squares += (new - mean).square().sum(0)
        self.squares += away.square() * self.count * len(new) / total
        self.mean += away * len(new) / total
        self.count.copy_(total)

    def normalised(self, vectors: Tensor) -> Tensor:
        """(vectors - mean) / (standard deviation + 1e-7), [..., width], of the vectors' dtype.

        Raises UntrainedEditor if fewer than two vectors were seen.
        """
        if float(self.count) < 2:
            raise UntrainedEditor(
                "the editor has seen too few gradients to normalise one: train it first"
            )
        deviation = (self.squares / (self.count - 1)).sqrt() + _EPSILON
        return (vectors - self.mean.to(vectors.dtype)) / deviation.to(vectors.dtype)
