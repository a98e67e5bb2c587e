"""A server's /metrics before and after a load."""

from collections.abc import Mapping
from dataclasses import dataclass

import httpx
from prometheus_client.parser import text_string_to_metric_families

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Snapshot:
    """All values at one time, by name and labels."""

    values: Mapping[tuple[str, Labels], float]

    @classmethod
    async def take(cls, http: httpx.AsyncClient, url: str) -> "Snapshot":
        reply = await http.get(f"{url}/metrics")
        reply.raise_for_status()
        return cls.parse(reply.text)

    @classmethod
    def parse(cls, text: str) -> "Snapshot":
        """From the Prometheus text format."""
        return cls(
            {
                (sample.name, tuple(sorted(sample.labels.items()))): sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
            }
        )

    def total(self, name: str, **labels: str) -> float:
        """The sum of all samples with this name and these labels."""
        return sum(
            value
            for (sample, its), value in self.values.items()
            if sample == name and labels.items() <= dict(its).items()
        )


@dataclass(frozen=True)
class MetricsDifference:
    """The difference between two snapshots."""

    before: Snapshot
    after: Snapshot

    def total(self, name: str, **labels: str) -> float:
        return self.after.total(name, **labels) - self.before.total(name, **labels)

    def mean(self, histogram: str, **labels: str) -> float | None:
        """The mean of the new observations of a histogram; None if there are none."""
        count = self.total(f"{histogram}_count", **labels)
        return self.total(f"{histogram}_sum", **labels) / count if count else None

    def share(self, part: str, whole: str) -> float | None:
        """The increase of one counter divided by another's; None if the other did not increase."""
        increase = self.total(whole)
        return self.total(part) / increase if increase else None
