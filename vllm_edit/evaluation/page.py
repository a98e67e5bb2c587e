"""A self-contained HTML page: it loads nothing, so it opens offline."""

from collections.abc import Sequence
from html import escape

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
svg.plot { width: 100%; background: var(--panel); border-radius: 6px; }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; font-size: 13px;
  margin: .5rem 0 1rem; }
svg.plot text { fill: var(--ink); }
"""


def document(title: str, parts: Sequence[str]) -> str:
    """A page with a heading and the parts, which are HTML."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><h1>{escape(title)}</h1>{''.join(parts)}</body></html>\n"
    )


def chapter(title: str) -> str:
    """A heading above sections."""
    return f"<h1>{escape(title)}</h1>"


def section(title: str, content: str) -> str:
    """A heading with its content, which is HTML."""
    return f"<h2>{escape(title)}</h2>{content}"


def plots(title: str, drawn: Sequence[str], legend: str = "") -> str:
    """A section of plots below their legend; nothing without a plot."""
    if not drawn:
        return ""
    key = f'<div class="legend">{legend}</div>' if legend else ""
    return section(title, f'{key}<div class="plots">{"".join(drawn)}</div>')


def table(rows: Sequence[Sequence[object]], kind: str = "") -> str:
    """The first row is the head. Cells are text."""
    head, *others = rows
    top = "".join(f"<th>{escape(str(cell))}</th>" for cell in head)
    lines = "".join(
        f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in others
    )
    body = f"<thead><tr>{top}</tr></thead><tbody>{lines}</tbody>"
    return f'<div class="wide"><table class="{kind}">{body}</table></div>'


def bullets(items: Sequence[str]) -> str:
    """A list of texts."""
    return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"
