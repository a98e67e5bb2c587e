"""The files that a run leaves: result.json, table.md and report.html."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from vllm_edit.evaluation import figures
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

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5c6675; --rule: #d9dee6;
  --paper: #ffffff; --panel: #f6f8fa; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #9aa4b2; --rule: #333c48;
  --paper: #14181e; --panel: #1b2129; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 1180px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
p, li, caption { color: var(--soft); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; }
th, td { padding: .35rem .6rem; border-bottom: 1px solid var(--rule); text-align: right;
  white-space: nowrap; }
th { background: var(--panel); } th:first-child, td:first-child { text-align: left; }
table.text td { text-align: left; white-space: normal; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(340px, 1fr)); gap: 1rem; }
.plots svg { width: 100%; background: var(--panel); border-radius: 6px; }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; font-size: 13px;
  margin: .5rem 0 1rem; }
.legend svg { width: 12px; height: 12px; margin-right: .4rem; vertical-align: -1px; }
svg text { font: 11px system-ui, sans-serif; fill: var(--soft); }
svg .title { font-size: 13px; font-weight: 600; fill: var(--ink); }
svg .end { text-anchor: end; } svg .middle { text-anchor: middle; }
.grid { stroke: var(--rule); stroke-width: 1; }
.line { fill: none; stroke-width: 2; } .dashed { stroke-dasharray: 7 4; }
.dotted { stroke-dasharray: 2 4; } .band { stroke-width: 2; opacity: .45; }
"""
# Okabe and Ito's colours, which those can tell apart who see fewer.
_PALETTE = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d00", "#7f7f7f",
)  # fmt: skip


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
        f"<h1>{escape(title)}</h1>",
        _list(notes(result)),
        _section("Quality and cost", _table(main_table(result))),
        _plots("Quality against the number of edits", figures.quality(result), result),
        _plots("What stays against what follows", figures.trade(result), result),
        _plots("Cost", figures.cost(result), None),
        _section("Preparation and memory", _table(cost_table(result))),
        _section(
            "Locality by kind, drift and CounterFact's scores", _table(locality_table(result))
        ),
        _section("95 % confidence intervals, generated", _table(_intervals(result))),
        _section("What was answered, each edit alone", _table(_examples(result), "text")),
        _failures(result),
    ]
    colours = "".join(
        f".c{number} {{ stroke: {colour}; }} .dot.c{number}, .bar.c{number} {{ fill: {colour}; }}"
        for number, colour in enumerate(_PALETTE)
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}{colours}</style></head>"
        f"<body>{''.join(parts)}</body></html>\n"
    )


def _section(title: str, content: str) -> str:
    return f"<h2>{escape(title)}</h2>{content}"


def _plots(title: str, plots: Sequence[str], result: Mapping[str, Any] | None) -> str:
    if not plots:
        return ""
    key = "" if result is None else f'<div class="legend">{figures.legend(result)}</div>'
    return _section(title, f'{key}<div class="plots">{"".join(plots)}</div>')


def _table(rows: Sequence[Sequence[object]], kind: str = "") -> str:
    head, *body = rows
    top = "".join(f"<th>{escape(str(cell))}</th>" for cell in head)
    lines = "".join(
        f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in body
    )
    table = f'<table class="{kind}"><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table>'
    return f'<div class="wide">{table}</div>'


def _list(items: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"


def _intervals(result: Mapping[str, Any]) -> list[list[str]]:
    """Percentile bootstrap over records."""
    head = ["method", "edits", "moment", *figures.QUALITIES]
    rows = []
    for row in result["rows"]:
        told = [row["metrics"].get(f"{name}/{GENERATED}") for name in figures.QUALITIES]
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
    return _section("Edits that failed", _list(told)) if told else ""
