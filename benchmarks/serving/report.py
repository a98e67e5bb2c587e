"""The result as one HTML page that opens offline."""

from collections.abc import Mapping
from typing import Any

from benchmarks.serving import plots, table
from vllm_edit.evaluation import page

TITLE = "Serving under edit load, compared with plain vLLM"
_CAUTION = (
    "The bundled model is tiny, so every cost is large next to it. A share of a request's time "
    "says nothing about larger models: read the absolute milliseconds for those."
)


def html(result: Mapping[str, Any]) -> str:
    """Tables, plots and explanations."""
    parts = [
        page.bullets([table.conditions(result), _CAUTION]),
        page.section("Throughput and latency", page.table(table.main_table(result))),
        page.section("Targets", page.table(table.target_table(result))),
        page.section("What edits cost", page.table(table.edit_table(result))),
        page.section("What the figures mean", page.bullets(table.MEANINGS)),
        page.section("The arms", page.table(table.arm_table(result), "text")),
        page.plots(
            "Latency against request rate", plots.by_rate(result), plots.rate_legend(result)
        ),
        page.plots(
            "Overhead against the number of edits", plots.by_edits(result), plots.SCOPE_LEGEND
        ),
        page.plots("Storms: dashed lines are swaps", plots.timelines(result)),
        page.plots("Where the milliseconds go", plots.profiles(result)),
    ]
    for title, rows in result["profile"].items():
        parts.append(page.section(title, page.table(table.profile_table(rows), "text")))
    return page.document(TITLE, parts)
