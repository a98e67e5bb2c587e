"""The tables of a result, and their Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vllm_edit.evaluation.judging import (
    EFFICACY,
    GENERALIZATION,
    LEAK,
    LOCALITY_GROUP,
    NEIGHBOURHOOD,
    PARAPHRASE,
    PORTABILITY_GROUP,
    RELIABILITY,
)
from vllm_edit.evaluation.more_questions import GROUP as ASKED
from vllm_edit.evaluation.plan import KNOWN, SEQUENTIAL, WRONG
from vllm_edit.evaluation.probe_scores import (
    BEGINS,
    FIRST_WORD,
    FORCED,
    GENERATED,
    RUN_ON,
    SIX_TOKENS,
)
from vllm_edit.evaluation.record import LOCALITY, OTHER_SUBJECTS, PORTABILITY
from vllm_edit.evaluation.summary import SCORE

NONE = "-"
"""The cell of a value that was not measured."""

ResultRow = Mapping[str, Any]
_NAMES = ("method", "edits", "judged")

Table = list[list[str]]
"""The first row is the head."""


def main_table(result: Mapping[str, Any]) -> Table:
    """The columns of Yao et al. 2023: reliability, generalization, locality, portability, cost.

    Each quality is in percent, generated / teacher-forced.
    """
    kinds = [kind for kind in PORTABILITY if _measured(result, f"{PORTABILITY_GROUP}.{kind}")]
    named = [RELIABILITY, GENERALIZATION, LOCALITY_GROUP]
    names = [*named, *(f"{PORTABILITY_GROUP}.{kind}" for kind in kinds)]
    titles = [_title(name) for name in names]
    head = ["method", "data", "edits", "judged", *titles, "s/edit", "memory GiB"]
    rows = [
        [
            row["method"],
            _data(result),
            edits(row),
            _judged(row),
            *(_pair(row, name) for name in names),
            _number(row["seconds_per_edit"], 3),
            _memory(result["costs"].get(row["method"], {})),
        ]
        for row in result["rows"]
    ]
    return [head, *rows]


def told_table(result: Mapping[str, Any]) -> Table:
    """What is told, and what is kept beside how the unedited model keeps it; in percent.

    Neighbours are prompts about other subjects; where the data have none, all locality prompts.
    """
    near = f"{LOCALITY_GROUP}.{OTHER_SUBJECTS}"
    near = near if _any(result, f"{near}/{FIRST_WORD}") else LOCALITY_GROUP
    columns = {
        "told": f"{RELIABILITY}/{BEGINS}",
        "run-on": f"{RELIABILITY}/{RUN_ON}",
        "exact": f"{RELIABILITY}/{GENERATED}",
        "reworded told": f"{GENERALIZATION}/{BEGINS}",
        "kept first word": f"{near}/{FIRST_WORD}",
        "kept six tokens": f"{near}/{SIX_TOKENS}",
        "kept sentence": f"{near}/{GENERATED}",
        "leak": LEAK,
        "NS": NEIGHBOURHOOD,
        "PS": PARAPHRASE,
    }
    return _of_columns(result, columns)


def otherwise_table(result: Mapping[str, Any]) -> Table:
    """The scores of further questions; only the head if none was asked."""
    names = sorted(
        {n for row in result["rows"] for n in row["metrics"] if n.startswith(f"{ASKED}.")}
    )
    return _of_columns(result, {name.partition(".")[2].replace("_", " "): name for name in names})


def age_table(result: Mapping[str, Any]) -> Table:
    """What is told at the end of a sequence, by the age of the edits; only the head without one."""
    rows = [
        [
            row["method"],
            edits(row),
            f"{part['first']} to {part['last']}",
            f"{100 * part['told']:.1f}",
        ]
        for row in result["rows"]
        for part in row.get("by_age", ())
    ]
    return [["method", "edits", "made as number", "told at the end"], *rows]


def has_figures(table: Table) -> bool:
    """Whether a table has more than a head and the names of its rows."""
    return len(table) > 1 and len(table[0]) > len(_NAMES)


def _of_columns(result: Mapping[str, Any], columns: Mapping[str, str]) -> Table:
    """A row for each row of the result, with the columns that are measured."""
    measured = {title: name for title, name in columns.items() if _any(result, name)}
    rows = [
        [row["method"], edits(row), _judged(row)]
        + [with_floor(row["metrics"].get(name)) for name in measured.values()]
        for row in result["rows"]
    ]
    return [[*_NAMES, *measured], *rows]


def locality_table(result: Mapping[str, Any]) -> Table:
    """Locality by kind, with drift and, if measured, fluency and CounterFact's scores."""
    names = [f"{LOCALITY_GROUP}.{kind}" for kind in LOCALITY]
    names = [name for name in names if _measured(result, name)]
    likely = [name for name in (EFFICACY, PARAPHRASE, NEIGHBOURHOOD, SCORE) if _any(result, name)]
    fluent = ["fluency"] if any(row["fluency"] is not None for row in result["rows"]) else []
    head = ["method", "edits", "judged", *map(_title, names), *map(_title, likely), *fluent, "KL"]
    rows = [
        [
            row["method"],
            edits(row),
            _judged(row),
            *(_pair(row, name) for name in names),
            *(_percent(row["metrics"].get(name)) for name in likely),
            *(_number(row["fluency"], 2) for _ in fluent),
            _number(row["drift"], 4),
        ]
        for row in result["rows"]
    ]
    return [head, *rows]


def cost_table(result: Mapping[str, Any]) -> Table:
    """Preparation time and memory by method."""
    names = {
        "ready_bytes": "memory when ready GiB",
        "peak_bytes": "peak memory GiB",
        "device_ready_bytes": "device memory when ready GiB",
        "device_peak_bytes": "peak device memory GiB",
    }
    measured = [name for name in names if any(name in c for c in result["costs"].values())]
    head = ["method", "preparation s", *(names[name] for name in measured)]
    rows = [
        [
            method,
            _number(costs.get("preparation_seconds"), 2),
            *(gibibytes(costs.get(name)) for name in measured),
        ]
        for method, costs in result["costs"].items()
    ]
    return [head, *rows]


def markdown(result: Mapping[str, Any]) -> str:
    """The tables with notes."""
    parts = [
        aligned(told_table(result)),
        *(
            aligned(table)
            for table in (otherwise_table(result), age_table(result))
            if has_figures(table)
        ),
        aligned(main_table(result)),
        aligned(locality_table(result)),
        aligned(cost_table(result)),
        "\n".join(f"- {note}" for note in notes(result)),
    ]
    return "\n\n".join(parts) + "\n"


def notes(result: Mapping[str, Any]) -> list[str]:
    """How the figures were measured."""
    plan, machine = result["plan"], result["machine"]
    which = "the first" if plan.get("in_order") else f"seed {plan['seed']}"
    only = {
        None: "",
        WRONG: " Only records whose target the unedited model does not tell.",
        KNOWN: " Only records whose true answer the unedited model tells.",
    }[plan.get("only")]
    sentences = [
        f"Data {plan['source']}, {plan['edits']} records, {which}; "
        f"{result['left_out']} records that cannot be edited were left out.{only}",
        *_how_it_was_asked(result),
        "Percentages are generated / teacher-forced: whole greedy answers that match, and the "
        "share of target tokens that are greedy after the target tokens before them. The second "
        "is usually higher.",
        "Locality is agreement with the unedited model, as the mean over kinds of probes. Probes "
        "that another edit in effect contradicts are left out.",
        f"KL is KL(unedited || edited) of the next token on {result['controls']} control prompts, "
        "in nats. It uses the 20 likeliest tokens and one class for the rest: a lower bound.",
        "s/edit is the median time from the request until the edit is active. Memory is the peak "
        "resident memory of all processes of the server; shared pages count in each process.",
        "Client machine: " + ", ".join(f"{name} {value}" for name, value in machine.items()),
    ]
    if any("device_peak_bytes" in costs for costs in result["costs"].values()):
        sentences.append(
            "Device memory is all memory in use on the GPUs, including the KV cache that the "
            "engine reserves and other programs."
        )
    failed = sum(row["failed"] for row in result["rows"])
    if failed:
        sentences.append(f"{failed} edits failed. They were judged as served, without effect.")
    return sentences


def _how_it_was_asked(result: Mapping[str, Any]) -> list[str]:
    """Sentences about the conditions; none for a result from before they were recorded."""
    plan = result["plan"]
    if "at_once" not in plan:
        return []
    alone = "alone, one after another"
    together = f"{plan['at_once']} at a time, so that answers may depend on each other"
    sentences = [
        f"Questions were asked {alone if plan['at_once'] == 1 else together}; answers have at most "
        f"{plan['tokens']} tokens.",
        "Told: the answer begins with the target, word by word. Run-on: of the told answers, those "
        "whose first line or sentence goes on behind the target. NS and PS are CounterFact's "
        "comparisons of probabilities, on neighbours and on other wordings.",
        "In brackets behind what is kept stands the noise floor: the unedited model, asked twice, "
        "against itself. Leak: neighbours answered with the new target that were not before.",
    ]
    for method, count in result.get("collapse", {}).items():
        when = "at no measured length" if count is None else f"at {count} edits"
        sentences.append(f"{method} in a row: fewer than {plan['bound']:.0%} told {when}.")
    return sentences


def edits(row: ResultRow) -> str:
    """The regime and the number of edits in effect together."""
    return NONE if row["regime"] == "none" else f"{row['regime']} {row['count']}"


def gibibytes(value: float | None) -> str:
    return NONE if value is None else f"{value / 2**30:.2f}"


def _judged(row: ResultRow) -> str:
    return (
        f"{row['records']} {row['moment']}" if row["regime"] == SEQUENTIAL else str(row["records"])
    )


def _data(result: Mapping[str, Any]) -> str:
    schema, _, path = result["plan"]["source"].partition(":")
    return f"{schema}:{path.rpartition('/')[2]}" if path else schema


def _title(name: str) -> str:
    group, _, kind = name.replace("_", " ").partition(".")
    return f"{'port.' if group == PORTABILITY_GROUP else group} {kind}" if kind else group


def _pair(row: ResultRow, name: str) -> str:
    metrics = [row["metrics"].get(f"{name}/{way}") for way in (GENERATED, FORCED)]
    if metrics == [None, None]:
        return NONE
    pair = " / ".join(map(_percent, metrics))
    floors = [f"{100 * metric['floor']:.1f}" for metric in metrics if metric and "floor" in metric]
    return f"{pair} ({' / '.join(floors)})" if floors else pair


def with_floor(metric: Mapping[str, float] | None) -> str:
    """The mean in percent; in brackets that of the unedited model against itself, if it counts."""
    floor = "" if metric is None or "floor" not in metric else f" ({100 * metric['floor']:.1f})"
    return f"{_percent(metric)}{floor}"


def _percent(metric: Mapping[str, float] | None) -> str:
    return NONE if metric is None else f"{100 * metric['mean']:.1f}"


def _number(value: float | None, digits: int) -> str:
    return NONE if value is None else f"{value:.{digits}f}"


def _memory(costs: Mapping[str, float]) -> str:
    return gibibytes(costs.get("peak_bytes"))


def _measured(result: Mapping[str, Any], name: str) -> bool:
    return _any(result, f"{name}/{GENERATED}")


def _any(result: Mapping[str, Any], metric: str) -> bool:
    return any(metric in row["metrics"] for row in result["rows"])


def aligned(table: Sequence[Sequence[str]]) -> str:
    """The table as Markdown; the first row is the head."""
    head, *rows = [[str(cell) for cell in row] for row in table]
    return "\n".join(map(_line, [head, ["---"] * len(head), *rows]))


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
