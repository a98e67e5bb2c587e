"""The result of an examination of a model, as data."""

from dataclasses import asdict, dataclass
from typing import Any

from weight_patchers.doctor.estimate import Cost
from weight_patchers.doctor.knowledge import Knowledge
from weight_patchers.doctor.proposal import Proposal
from weight_patchers.doctor.reading import Reading
from weight_patchers.doctor.structure import Structure
from weight_patchers.doctor.tracing import Trace


@dataclass(frozen=True)
class Finding:
    """Something a user should know. `blocks`: editing, or a requested check, fails."""

    code: str
    blocks: bool
    message: str


@dataclass(frozen=True)
class LayerStatistics:
    """How well a layer's key statistics can be inverted; `ridge` is 0 where nothing was added."""

    layer: int
    tokens: int
    condition: float
    ridge: float


@dataclass(frozen=True)
class MethodReport:
    """A weight method on this model. `hyperparameters` names the shipped ones that match, None
    the generic ones; `proposed` are the layers that tracing proposes for it, if any;
    `preparation` are seconds spent once, and `costs` those of different numbers of edits."""

    name: str
    hyperparameters: str | None
    layers: tuple[int, ...]
    proposed: tuple[int, ...] | None
    covariance: bool
    preparation: float
    costs: tuple[Cost, ...]


@dataclass(frozen=True)
class Report:
    """The whole result; a part that failed is None or empty, and a finding says why."""

    structure: Structure | None = None
    reading: Reading | None = None
    trace: Trace | None = None
    proposal: Proposal | None = None
    knowledge: tuple[Knowledge, ...] = ()
    methods: tuple[MethodReport, ...] = ()
    statistics: tuple[LayerStatistics, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether no finding blocks editing."""
        return not any(finding.blocks for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values, for JSON."""
        return {"usable": self.usable, **asdict(self)}
