"""The files that a run writes: result.json, table.md and report.html."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vllm_edit.evaluation import page, report_plots
from vllm_edit.evaluation.cells import NONE, Table, edits
from vllm_edit.evaluation.notes import notes
from vllm_edit.evaluation.probe_scores import GENERATED
from vllm_edit.evaluation.table import cost_table, locality_table, main_table, markdown
from vllm_edit.evaluation.told_tables import age_table, has_figures, otherwise_table, told_table


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
    return page.document(title, _parts(result))


def combined(model: str, results: Mapping[str, Mapping[str, Any]]) -> str:
    """A self-contained page with the tables and plots of several data sets, by their names."""
    parts = [part for name, one in results.items() for part in (page.chapter(name), *_parts(one))]
    return page.document(f"Edits of {model}", parts)


def _parts(result: Mapping[str, Any]) -> list[str]:
    legend = report_plots.method_legend(result)
    parts = [
        page.bullets(notes(result)),
        page.section("Told and kept", page.table(told_table(result))),
        *_measured("Asked otherwise", otherwise_table(result)),
        page.section("Quality and cost", page.table(main_table(result))),
        page.plots(
            "Quality against the number of edits", report_plots.quality_plots(result), legend
        ),
        page.plots("Told against kept", report_plots.told_plots(result), legend),
        page.plots("Locality against portability", report_plots.trade_off_plots(result), legend),
        page.plots("Told at the end of a sequence, by age", report_plots.age_plots(result), legend),
        *_measured("Told by age", age_table(result)),
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
    return parts


def _measured(title: str, table: Table) -> list[str]:
    """A section, unless the table has no figures."""
    return [page.section(title, page.table(table))] if has_figures(table) else []


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
