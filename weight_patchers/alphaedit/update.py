"""AlphaEdit's projection and closed form (Fang et al. 2025, arXiv 2410.02355, eq. 7 and 14)."""

import torch
from torch import Tensor

from weight_patchers.errors import UnusableStatistics


def null_space(moment: Tensor, threshold: float | None, share: float | None) -> Tensor:
    """Orthonormal columns [d_in, s], float64, along which the keys of other text hardly lie.

    They are the eigenvectors of the second moment [d_in, d_in] with eigenvalues below
    `threshold`, or, where `share` is given, the share of all with the smallest eigenvalues,
    which does not depend on the scale of the keys.
    Raises UnusableStatistics when there are none.
    """
    values: Tensor
    vectors: Tensor
    values, vectors = torch.linalg.eigh(moment.double())
    if share is not None:
        count = round(share * len(values))
    elif threshold is not None:
        count = int((values < threshold).sum())
    else:
        raise UnusableStatistics("a null space needs a threshold or a share: give one")
    if count == 0:
        raise UnusableStatistics(
            f"no direction of the keys has a second moment below {threshold}: "
            "raise null_threshold, or set null_share, for example to 0.7"
        )
    return vectors[:, :count]


def columns(space: Tensor, keys: Tensor, past: Tensor, ridge: float) -> Tensor:
    """V with V^T = K^T P (K K^T P + Kp Kp^T P + ridge I)^-1, float64 [d_in, n].

    `space` [d_in, s] spans the null space, P = space space^T; `keys` K [d_in, n] are the edits',
    `past` Kp [d_in, m] those of edits made before. In the coordinates of the space, with
    Q = space^T K and A = [Q, Qp], the same is V = space (A A^T + ridge I)^-1 Q: symmetric and
    positive definite. While n + m is smaller than s it is solved in n + m dimensions:
    (A A^T + ridge I)^-1 A = A (A^T A + ridge I)^-1.
    """
    n = keys.shape[1]
    inside = space.T @ torch.cat([keys, past], dim=1)
    if inside.shape[1] < inside.shape[0]:
        small = inside.T @ inside
        small.diagonal().add_(ridge)
        wanted = torch.eye(len(small), n, dtype=small.dtype, device=small.device)
        solved = inside @ torch.cholesky_solve(wanted, torch.linalg.cholesky(small))
    else:
        total = inside @ inside.T
        total.diagonal().add_(ridge)
        solved = torch.cholesky_solve(inside[:, :n], torch.linalg.cholesky(total))
    return space @ solved
