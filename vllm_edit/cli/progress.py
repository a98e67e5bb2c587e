"""The progress bar of commands that can be interrupted and resumed."""

from typing import Any


class ResumedBar:
    """Begins where the resumed run does; shown on a terminal only."""

    def __init__(self, unit: str, *, scale: bool = False) -> None:
        self._unit = unit
        self._scale = scale
        self._bar: Any = None

    def __call__(self, done: int, total: int, loss: float | None = None) -> None:
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(
                total=total,
                initial=done,
                unit=f" {self._unit}",
                unit_scale=self._scale,
                disable=None,
            )
        if loss is not None:
            self._bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        self._bar.update(done - self._bar.n)
        if done >= total:
            self._bar.close()
