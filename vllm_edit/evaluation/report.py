"""The files that a run writes: result.json, table.md and report.html."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vllm_edit.evaluation import page, report_plots
from vllm_edit.evaluation.judging import GENERATED
from vllm_edit.evaluation.table import (
    NONE,
    Table,
    cost_table,
    edits,
    locality_table,
    main_table,
    markdown,
    notes,
)


def write_reports(result: Mapping[str, Any], folder: Path) -> str:
    """Write all files of a result. Returns the Markdown and the path of the page."""
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
    """A self-contained page with all tables and plots."""
    plan = result["plan"]
    title = f"Evaluation of {', '.join(plan['methods'])} on edits of {plan['source']}"
    legend = report_plots.method_legend(result)
    parts = [
        page.bullets(notes(result)),
        page.section("Quality and cost", page.table(main_table(result))),
        page.plots(
            "Quality against the number of edits", report_plots.quality_plots(result), legend
        ),
        page.plots("Locality against portability", report_plots.trade_off_plots(result), legend),
        page.plots("Cost", report_plots.cost_plots(result)),
        page.section("Preparation and memory", page.table(cost_table(result))),
        page.section(
            "Locality by kind, drift and CounterFact scores", page.table(locality_table(result))
        ),
        page.section(
            "95 % confidence intervals of generated answers", page.table(_interval_table(result))
        ),
        page.section("Example answers, each edit alone", page.table(_examples(result), "text")),
    ]
    failures = [f"{method}: {text}" for method, all_ in result["failures"].items() for text in all_]
    if failures:
        parts.append(page.section("Failed edits", page.bullets(failures)))
    return page.document(title, parts)


def _interval_table(result: Mapping[str, Any]) -> Table:
    """Percentile bootstrap over records."""
    rows = [["method", "edits", "moment", *report_plots.QUALITIES]]
    for row in result["rows"]:
        scores = [row["metrics"].get(f"{name}/{GENERATED}") for name in report_plots.QUALITIES]
        cells = [
            f"{100 * s['low']:.1f} to {100 * s['high']:.1f} ({s['records']})" if s else NONE
            for s in scores
        ]
        rows.append([row["method"], edits(row), row["moment"], *cells])
    return rows


def _examples(result: Mapping[str, Any]) -> Table:
    methods = ["unedited", *result["plan"]["methods"]]
    rows = [
        [
            example["prompt"],
            example["target_new"],
            *(example["said"].get(method, NONE) for method in methods),
        ]
        for example in result["examples"]
    ]
    return [["prompt", "target", *methods], *rows]
