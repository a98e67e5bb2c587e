"""Running sums of k k^T, in two halves that give the standard error of the whole."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

_ROWS = 512


@dataclass(eq=False)
class Sums:
    """Sums over batches, by layer, on the CPU: [d, d], d the width of the layer's keys.

    `totals`, float64, are over all batches; `differences`, float32, over those with even numbers
    minus those with odd numbers. `even` and `odd` count their tokens.
    """

    totals: dict[int, Tensor]
    differences: dict[int, Tensor]
    even: int = 0
    odd: int = 0
    batches: int = 0

    @classmethod
    def zero(cls, widths: Mapping[int, int]) -> Self:
        """Nothing summed yet, for layers with keys of these widths."""
        return cls(
            {layer: torch.zeros(d, d, dtype=torch.float64) for layer, d in widths.items()},
            {layer: torch.zeros(d, d, dtype=torch.float32) for layer, d in widths.items()},
        )

    @property
    def count(self) -> int:
        """The tokens summed."""
        return self.even + self.odd

    def add(self, keys: Mapping[int, Tensor]) -> None:
        """Add one batch: keys [tokens, d] of every layer, the same tokens in each.

        A batch is summed in float32 on its keys' device, and added to the rest in float64.
        """
        counts = {len(rows) for rows in keys.values()}
        sign = 1 - 2 * (self.batches % 2)
        for layer, rows in keys.items():
            exact = rows.float()
            product = (exact.T @ exact).cpu()
            self.differences[layer].add_(product, alpha=sign)
            for block in _blocks(len(product)):
                self.totals[layer][block].add_(product[block])
        if sign > 0:
            self.even += counts.pop()
        else:
            self.odd += counts.pop()
        self.batches += 1

    def finish(self) -> tuple[dict[int, Tensor], dict[int, float]]:
        """The second moments C, float32, and their standard errors; the sums are consumed.

        Let C1 and C2 be the moments of the even and the odd batches, over n1 and n2 tokens, and
        n = n1 + n2. Where batches are independent draws from one text, each entry of Ci has
        variance s^2 / ni and that of C has s^2 / n. Therefore E ||C1 - C2||_F^2 =
        S (1/n1 + 1/n2) = S n / (n1 n2), where S is the sum of all s^2, and the mean square of
        ||C - E C||_F is S / n. So

            error = sqrt(n1 n2) / n ||C1 - C2||_F / ||C||_F,

        which is half of ||C1 - C2||_F / ||C||_F for equal halves, estimates the relative
        standard error of C. It covers chance within this text, not other kinds of text. It is too
        small where neighbouring batches are alike, as in one long document. With a
        single batch it is infinite.
        """
        moments: dict[int, Tensor] = {}
        errors: dict[int, float] = {}
        for layer in list(self.totals):
            total, difference = self.totals.pop(layer), self.differences.pop(layer)
            gap = self._gap(total, difference)
            # One at a time, so that only one exists both in float64 and in float32.
            moments[layer] = total.div_(self.count).float()
            size = float(moments[layer].norm())
            errors[layer] = gap / size if size else math.inf
        return moments, errors

    def _gap(self, total: Tensor, difference: Tensor) -> float:
        """sqrt(n1 n2) / n ||C1 - C2||_F; overwrites `difference`.

        As the halves' sums are (total +- difference) / 2, C1 - C2 is
        total (1/n1 - 1/n2) / 2 + difference (1/n1 + 1/n2) / 2.
        """
        if not self.odd:
            return math.inf
        difference.mul_((1 / self.even + 1 / self.odd) / 2)
        for block in _blocks(len(total)):
            difference[block].add_(total[block], alpha=(1 / self.even - 1 / self.odd) / 2)
        return math.sqrt(self.even * self.odd) / self.count * float(difference.norm())


def _blocks(rows: int) -> Iterator[slice]:
    """Slices of rows: mixing float32 and float64, PyTorch copies a whole operand."""
    return (slice(start, start + _ROWS) for start in range(0, rows, _ROWS))
