"""What a server's /metrics say of a span of time."""

from collections.abc import Mapping
from dataclasses import dataclass

import httpx
from prometheus_client.parser import text_string_to_metric_families

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Snapshot:
    """Values by name and labels, as they stood at one time."""

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
        """Over all samples of the name that have these labels."""
        return sum(
            value
            for (found, its), value in self.values.items()
            if found == name and labels.items() <= dict(its).items()
        )


@dataclass(frozen=True)
class MetricsDifference:
    """What was added between two snapshots."""

    before: Snapshot
    after: Snapshot

    def total(self, name: str, **labels: str) -> float:
        return self.after.total(name, **labels) - self.before.total(name, **labels)

    def mean(self, histogram: str, **labels: str) -> float | None:
        """Of what a histogram saw meanwhile; None if that was nothing."""
        count = self.total(f"{histogram}_count", **labels)
        return self.total(f"{histogram}_sum", **labels) / count if count else None

    def share(self, part: str, whole: str) -> float | None:
        """One counter's part of another; None if the other did not move."""
        of = self.total(whole)
        return self.total(part) / of if of else None
