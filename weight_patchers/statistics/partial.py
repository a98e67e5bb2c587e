"""Partial sums on disk, so that a killed process need not start over."""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from safetensors import SafetensorError, safe_open

from weight_patchers.statistics.sampling import batch_tokens
from weight_patchers.statistics.storage import write
from weight_patchers.statistics.sums import Sums

SECONDS = 60.0


@dataclass(frozen=True)
class Sample:
    """What a collection is made of; only sums of an equal sample are resumed."""

    fingerprint: str
    source: str
    dtype: str
    layers: tuple[int, ...]
    tokens: int


@dataclass
class Partial:
    """The file of one collection's sums in `folder`.

    Sums are due to be saved every `seconds`, or less often if saving would take more than a
    twentieth of the time.
    """

    folder: Path
    sample: Sample
    seconds: float = SECONDS
    _due: float = field(init=False)

    def __post_init__(self) -> None:
        self._due = time.monotonic() + self.seconds

    @property
    def path(self) -> Path:
        """The file's path; samples that differ have different names."""
        digest = hashlib.sha256(self._identity().encode()).hexdigest()
        return self.folder / f"{self.sample.fingerprint[:16]}-{digest[:16]}.partial"

    def take_up(self, widths: Mapping[int, int]) -> Sums:
        """The stored sums of this sample, or zero if there are none or they are damaged."""
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("sample") != self._identity():
                    return Sums.zero(widths)
                return Sums(
                    {layer: file.get_tensor(f"total.{layer}") for layer in widths},
                    {layer: file.get_tensor(f"difference.{layer}") for layer in widths},
                    **{name: int(metadata[name]) for name in ("even", "odd", "batches")},
                )
        except (OSError, SafetensorError):
            return Sums.zero(widths)

    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() >= self._due

    def save(self, sums: Sums) -> None:
        """Write the sums, whole or not at all."""
        start = time.monotonic()
        counts = {name: str(getattr(sums, name)) for name in ("even", "odd", "batches")}
        tensors = {f"total.{layer}": total for layer, total in sums.totals.items()}
        tensors |= {f"difference.{layer}": d for layer, d in sums.differences.items()}
        write(self.path, tensors, {"sample": self._identity(), **counts})
        end = time.monotonic()
        self._due = end + max(self.seconds, 20 * (end - start))

    def delete(self) -> None:
        """Remove the file, if there is one."""
        self.path.unlink(missing_ok=True)

    def _identity(self) -> str:
        batch = batch_tokens(self.sample.tokens)
        return json.dumps(asdict(self.sample) | {"batch_tokens": batch}, sort_keys=True)
