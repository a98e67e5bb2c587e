"""What ``vllm-edit doctor`` prints."""

from collections.abc import Sequence
from typing import TextIO

from rich import box
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table
from rich.text import Text

from weight_patchers.doctor.diagnosis import Finding, LayerStatistics, MethodReport, Report
from weight_patchers.doctor.knowledge import Knowledge
from weight_patchers.doctor.proposal import Proposal
from weight_patchers.doctor.reading import Reading
from weight_patchers.doctor.structure import Structure
from weight_patchers.doctor.tracing import Trace

WIDTH = 100
_UNITS = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
_SPANS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


def print_report(report: Report, file: TextIO | None = None) -> None:
    """Print a report to `file` or standard output, at most `WIDTH` columns wide."""
    console = Console(file=file, highlight=False)
    console.width = min(console.width, WIDTH) if console.is_terminal else WIDTH
    if report.structure is not None:
        _structure(console, report.structure)
    if report.reading is not None:
        _reading(console, report.reading)
    if report.trace is not None and report.trace.recalled:
        _trace(console, report.trace, report.proposal)
    if report.knowledge:
        _knowledge(console, report.knowledge)
    if report.statistics:
        _statistics(console, report.statistics)
    if report.methods:
        _methods(console, report.methods)
    _findings(console, report.findings)
    verdict = "This model can be edited." if report.usable else "Not usable as it is."
    console.print(Text(verdict, style="bold green" if report.usable else "bold red"))


def _structure(console: Console, structure: Structure) -> None:
    orientation = ", stored transposed" if structure.transposed else ""
    tied = "tied to" if structure.tied else "apart from"
    lines = (
        f"{structure.architecture}: {structure.layers} layers of width {structure.width}, "
        f"{structure.parameters:,} parameters in {structure.dtype} "
        f"(examined in {structure.loaded})",
        f"keys of width {structure.key_width} at {structure.matrix}{orientation}",
        f"vocabulary of {structure.vocabulary}; the output embeddings are {tied} the input's",
    )
    for line in lines:
        console.print(Text(line))


def _reading(console: Console, reading: Reading) -> None:
    front = " ".join(reading.begins)
    begins = f"puts {front} in front of a text" if front else "puts no token in front of a text"
    template = "a chat template" if reading.chat else "no usable chat template"
    console.print(Text(f"the tokenizer {begins} and has {template}"))


def _trace(console: Console, trace: Trace, proposal: Proposal | None) -> None:
    console.print(
        f"\nThe model recalls {trace.recalled} of {trace.given} facts. Traced: {trace.traced}, "
        f"each with {trace.samples} draws of noise on the subject,"
    )
    console.print(
        f"which takes the answer's probability from {trace.clean:.2f} to {trace.corrupted:.2f}. "
        "Restoring one part gives back:"
    )
    mlps = "MLP" if trace.window == 1 else f"{trace.window} MLPs"
    table = _table("layer", f"{mlps}, subject's last token", "state there", "state, last token")
    columns = (trace.mlp_at_subject, trace.hidden_at_subject, trace.hidden_at_last)
    for layer, effects in enumerate(zip(*columns, strict=True)):
        table.add_row(str(layer), *(f"{effect:.3f}" for effect in effects))
    console.print(table)
    if proposal is not None:
        console.print(
            f"Proposed: layer {proposal.one} where one is edited, "
            f"{_range(proposal.several)} where several are. Measured hyperparameters go first: "
            "where a fact is recalled is not always where it is best edited."
        )


def _knowledge(console: Console, facts: Sequence[Knowledge]) -> None:
    known = sum(fact.known for fact in facts)
    console.print(
        f"\nThe model knows {known} of {len(facts)} facts: the answer's probability after its "
        "prompt and after\nother prompts about the subject. A score below 1: not known."
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("prompt", "answer"):
        table.add_column(name, overflow="ellipsis", no_wrap=True, max_width=44)
    for name in ("p", "elsewhere", "score"):
        table.add_column(name, justify="right")
    for one in sorted(facts, key=lambda one: one.score):
        texts = Text(one.fact.prompt), Text(one.fact.answer)
        table.add_row(*texts, f"{one.p:.3f}", f"{one.contrasted:.3f}", f"{one.score:.3g}")
    console.print(table)


def _statistics(console: Console, layers: Sequence[LayerStatistics]) -> None:
    console.print(f"\nKey statistics of {layers[0].tokens} tokens:")
    table = _table("layer", "condition", "ridge")
    for entry in layers:
        table.add_row(str(entry.layer), f"{entry.condition:.1e}", f"{entry.ridge:.1e}")
    console.print(table)


def _methods(console: Console, methods: Sequence[MethodReport]) -> None:
    counts = [cost.edits for cost in methods[0].costs]
    console.print("\nWhat edits cost here, at most; memory is the model's and what is beside it:")
    times = [f"{count:,} edit{'s' * (count > 1)}" for count in counts]
    table = _table("method", "settings", "layers", "once", *times, "memory", "delta")
    for method in methods:
        last = method.costs[-1]
        table.add_row(
            method.name,
            method.hyperparameters or "generic",
            _range(method.layers),
            duration(method.preparation),
            *(duration(cost.seconds) for cost in method.costs),
            size(last.device_bytes + last.host_bytes),
            size(last.delta_bytes),
        )
    console.print(table)
    console.print(f"memory and delta: those of {counts[-1]:,} edits in one batch", style="dim")


def _findings(console: Console, findings: Sequence[Finding]) -> None:
    if findings:
        console.print()
    for finding in findings:
        sign, style = ("✗", "red") if finding.blocks else ("!", "yellow")
        console.print(Text(f"{sign} {finding.message} [{finding.code}]", style=style))


def duration(seconds: float) -> str:
    """Two digits or more in the largest fitting of ms, s, min, h, d."""
    for length, unit in _SPANS:
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{round(seconds * 1000)} ms" if seconds else "-"


def size(count: int) -> str:
    """Decimal: 1 kB is 1000 bytes."""
    for length, unit in _UNITS:
        if count >= length:
            return f"{count / length:.3g} {unit}"
    return f"{count} B"


def _range(layers: Sequence[int]) -> str:
    if len(layers) > 1 and list(layers) == list(range(layers[0], layers[-1] + 1)):
        return f"{layers[0]}-{layers[-1]}"
    return ", ".join(map(str, layers))


def _table(*headers: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, header in enumerate(headers):
        table.add_column(header, justify="right" if number else "left")
    return table


class StageBars(Progress):
    """One progress bar for each stage, on standard error; shown on a terminal only."""

    def __init__(self) -> None:
        super().__init__(console=Console(stderr=True), transient=True)
        self._stages: dict[str, TaskID] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage not in self._stages:
            self._stages[stage] = self.add_task(stage)
        self.update(self._stages[stage], completed=done, total=total)
