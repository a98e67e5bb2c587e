"""The files that a run leaves: result.json, table.md and report.html."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vllm_edit.evaluation import page, report_plots
from vllm_edit.evaluation.judging import GENERATED
from vllm_edit.evaluation.table import (
    NONE,
    cost_table,
    edits,
    locality_table,
    main_table,
    markdown,
    notes,
)


def write_reports(result: Mapping[str, Any], folder: Path) -> str:
    """Write all of a result's files; returns the Markdown and where they are."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = markdown(result)
    for name, content in (
        ("result.json", json.dumps(result, indent=2, ensure_ascii=False) + "\n"),
        ("table.md", tables),
        ("report.html", html(result)),
    ):
        (folder / name).write_text(content, encoding="utf-8")
    return f"{tables}\n{folder / 'report.html'}"


def html(result: Mapping[str, Any]) -> str:
    """One page with everything in it; it loads nothing."""
    plan = result["plan"]
    title = f"Edits of {plan['source']} judged: {', '.join(plan['methods'])}"
    parts = [
        page.bullets(notes(result)),
        page.section("Quality and cost", page.table(main_table(result))),
        _plots("Quality against the number of edits", report_plots.quality(result), result),
        _plots("What stays against what follows", report_plots.trade(result), result),
        _plots("Cost", report_plots.cost(result), None),
        page.section("Preparation and memory", page.table(cost_table(result))),
        page.section(
            "Locality by kind, drift and CounterFact's scores", page.table(locality_table(result))
        ),
        page.section("95 % confidence intervals, generated", page.table(_intervals(result))),
        page.section("What was answered, each edit alone", page.table(_examples(result), "text")),
        _failures(result),
    ]
    return page.document(title, parts)


def _plots(title: str, plots: Sequence[str], result: Mapping[str, Any] | None) -> str:
    if not plots:
        return ""
    key = "" if result is None else f'<div class="legend">{report_plots.legend(result)}</div>'
    return page.section(title, f'{key}<div class="plots">{"".join(plots)}</div>')


def _intervals(result: Mapping[str, Any]) -> list[list[str]]:
    """Percentile bootstrap over records."""
    head = ["method", "edits", "moment", *report_plots.QUALITIES]
    rows = []
    for row in result["rows"]:
        told = [row["metrics"].get(f"{name}/{GENERATED}") for name in report_plots.QUALITIES]
        cells = [
            NONE if t is None else f"{100 * t['low']:.1f} to {100 * t['high']:.1f} ({t['records']})"
            for t in told
        ]
        rows.append([row["method"], edits(row), row["moment"], *cells])
    return [head, *rows]


def _examples(result: Mapping[str, Any]) -> list[list[str]]:
    methods = ["unedited", *result["plan"]["methods"]]
    rows = [
        [found["prompt"], found["target_new"], *(found["said"].get(m, NONE) for m in methods)]
        for found in result["examples"]
    ]
    return [["prompt", "target", *methods], *rows]


def _failures(result: Mapping[str, Any]) -> str:
    told = [
        f"{method}: {failure}"
        for method, failures in result["failures"].items()
        for failure in failures
    ]
    return page.section("Edits that failed", page.bullets(told)) if told else ""
