"""The figures of the serving benchmark, and one quick run."""

import json
import random
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import machine
from benchmarks.serving import report, table
from benchmarks.serving.arms import Arm, arms
from benchmarks.serving.load import LoadResult, Stream
from benchmarks.serving.measure import LoadRun, load_runs, recomputed, timeline
from benchmarks.serving.metrics import MetricsDifference, Snapshot
from benchmarks.serving.plan import FULL, QUICK, TURNS
from benchmarks.serving.profile import Stopwatch
from benchmarks.serving.rounds import rotated
from benchmarks.serving.summary import CLOSED, OPEN, interval, judge_goals, over_rounds, ratio
from benchmarks.serving.traffic import INSTRUCTIONS, facts, prompts
from benchmarks.spread import Spread, spread


def record(arm: str, number: int, loop: str, **figures: Any) -> dict[str, Any]:
    rate = "inf" if loop == CLOSED else 8.0
    common = {"edit_arm": arm, "edit_round": number, "edit_loop": loop, "request_rate": rate}
    return {**common, "failed": 0, "output_throughput": 100.0, "median_ttft_ms": 20.0, **figures}


def rounds(arm: str, throughputs: list[float], ttfts: list[float]) -> list[dict[str, Any]]:
    closed = [record(arm, n, CLOSED, output_throughput=v) for n, v in enumerate(throughputs)]
    return closed + [record(arm, n, OPEN, median_ttft_ms=v) for n, v in enumerate(ttfts)]


def test_a_ratio_is_each_rounds_own() -> None:
    # The machine was half as fast in the second round, for both.
    records = rounds("plain", [100, 50, 80], [10, 20, 10])
    records += rounds("no-edits", [99, 49, 88], [11, 20, 12])
    assert ratio(records, "no-edits", CLOSED, "output_throughput") == Spread(0.99, 0.98, 1.1)
    assert ratio(records, "no-edits", OPEN, "median_ttft_ms") == Spread(1.1, 1.0, 1.2)


def test_the_interval_is_given_by_ranks() -> None:
    ratios = [1.0 + number / 100 for number in range(100)]
    records = rounds("plain", [100.0] * 100, []) + rounds("a", [100 * r for r in ratios], [])
    bounds = interval(records, "a", CLOSED, "output_throughput")
    # The 41st and the 60th of 100 ratios.
    assert bounds == pytest.approx((1.40, 1.59))
    assert interval(records[:9], "plain", CLOSED, "output_throughput") is None


def test_the_interval_has_its_nominal_coverage() -> None:
    rng = random.Random(0)
    held = 0
    for _ in range(500):
        records = rounds("plain", [1.0] * 60, [])
        records += rounds("a", [rng.lognormvariate(0.0, 0.3) for _ in range(60)], [])
        low, high = interval(records, "a", CLOSED, "output_throughput") or (0.0, 0.0)
        held += low <= 1.0 <= high
    assert held / 500 >= 0.93


def test_a_spread_counts_as_its_median() -> None:
    spreads = [{"median": 3.0, "min": 1.0, "max": 9.0}, None, {"median": 5.0, "min": 1, "max": 9}]
    records = [
        record("s", n, CLOSED, edit_visible_ms=measured) for n, measured in enumerate(spreads)
    ]
    assert over_rounds(records, "s", CLOSED, "edit_visible_ms") == Spread(4.0, 3.0, 5.0)
    assert over_rounds(records, "s", CLOSED, "not_there") is None


@pytest.mark.parametrize(
    ("throughput", "ttft", "lost", "met"),
    [(99.5, 10.1, 0, True), (98.0, 10.1, 0, False), (99.5, 10.5, 0, False), (99.5, 10, 1, False)],
)
def test_a_target_holds_throughput_latency_and_failures(
    throughput: float, ttft: float, lost: int, met: bool
) -> None:
    records = rounds("plain", [100] * 3, [10] * 3) + rounds(
        "no-edits", [throughput] * 3, [ttft] * 3
    )
    records[-1]["failed"] = lost
    (measured,) = judge_goals(records)
    assert (measured["arm"], measured["met"], measured["failed_requests"]) == (
        "no-edits",
        met,
        lost,
    )


def test_spread() -> None:
    assert spread(iter([3.0, 1.0, 2.0])) == {"median": 2.0, "min": 1.0, "max": 3.0}
    assert spread([]) is None


def two_streams() -> LoadResult:
    streams = (Stream(10.0, (10.1, 10.2, 10.9)), Stream(10.5, (10.6, 10.7)))
    flat = {"total_input_tokens": 40, "completed": 2}
    return LoadResult(flat, 40, (), streams, (), (10.0, 11.0))


def test_a_timeline_counts_tokens_and_gaps_by_window() -> None:
    measured = timeline(two_streams(), [10.65])
    assert measured["tokens_per_second"] == [8.0, 0.0, 8.0, 4.0, 0.0]
    assert measured["longest_gap_ms"] == pytest.approx([100.0, 0.0, 100.0, 700.0, 0.0])
    assert measured["swaps"] == pytest.approx([0.65])


def test_a_swap_recomputes_running_streams() -> None:
    answered = two_streams()
    # After their prompts of 20 tokens, the first has two tokens and the second has one.
    assert recomputed(answered.streams, answered.flat, [10.65]) == 20 + 2 + 20 + 1
    assert recomputed(answered.streams, answered.flat, [11.5]) == 0


def test_metrics_of_a_span() -> None:
    text = (
        '# TYPE vllm:hits counter\nvllm:hits_total{{engine="0"}} {hits}\n'
        "# TYPE swap_seconds histogram\n"
        'swap_seconds_sum{{part="pause"}} {seconds}\nswap_seconds_count{{part="pause"}} {count}\n'
    )
    before = Snapshot.parse(text.format(hits=1, seconds=1.0, count=2))
    after = Snapshot.parse(text.format(hits=4, seconds=2.0, count=6))
    change = MetricsDifference(before, after)
    assert change.total("vllm:hits_total") == 3
    assert change.mean("swap_seconds", part="pause") == 0.25
    assert change.mean("swap_seconds", part="stage") is None
    assert change.share("vllm:hits_total", "nothing") is None


def test_traffic_in_scope_is_about_facts_in_memory() -> None:
    fact_prompts = {fact["prompt"] for fact in facts(1000, "ike", "s")}
    for scoped in (0, 10, 100):
        questions = [text.removeprefix(INSTRUCTIONS) for text in prompts(200, 3, scoped, 1000)]
        assert sum(text in fact_prompts for text in questions) == 2 * scoped
    assert prompts(50, 1) == prompts(50, 1)
    assert not set(prompts(50, 1)) & set(prompts(50, 2))


def test_every_round_has_every_arm_in_another_order() -> None:
    all_arms = arms(FULL)
    orders = [rotated(all_arms, number) for number in range(3)]
    assert len({order[0].name for order in orders}) == 3
    assert all(sorted(a.name for a in o) == sorted(a.name for a in all_arms) for o in orders)
    assert len({arm.name for arm in all_arms}) == len(all_arms)


def test_arms_are_chosen_by_name() -> None:
    assert [arm.name for arm in arms(QUICK, ["mello"])] == ["plain", "mello"]
    assert "mello" not in {arm.name for arm in arms(QUICK)}
    assert [arm.name for arm in arms(TURNS)] == ["plain", "no-edits", "memory-100000-0%", "merged"]
    with pytest.raises(ValueError, match="There is no arm melo"):
        arms(FULL, ["melo"])


def test_arms_get_the_same_traffic_in_a_round() -> None:
    arm = Arm("a", "", "plain", swept=True)
    other = Arm("b", "", "plain")
    first, second = load_runs(FULL, arm, 0), load_runs(FULL, arm, 1)
    assert first[:2] == load_runs(FULL, other, 0)
    assert {ask.rate for ask in first} == {float("inf"), *FULL.rates}
    assert [ask.loop for ask in second] == [CLOSED, OPEN]
    assert not {a.number for a in first} & {a.number for a in second}
    assert isinstance(first[0], LoadRun)


def test_nested_parts_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 1.0, 3.0, 10.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks))
    watch = Stopwatch()
    with watch.part("outer"), watch.part("inner"):
        pass
    assert watch.seconds == {"outer": 8.0, "inner": 2.0}


def made_up_result() -> dict[str, Any]:
    """The result of a run of all arms."""
    all_arms = arms(FULL)
    records = []
    for number in range(2):
        for place, arm in enumerate(all_arms):
            line = {
                "window_seconds": 0.25,
                "tokens_per_second": [100.0, 900.0, 800.0],
                "longest_gap_ms": [10.0, 200.0, 20.0],
                "swaps": [0.3, 0.5],
            }
            figures = {f"p{p}_{m}_ms": 5.0 + place for p in (50, 99) for m in ("ttft", "itl")}
            edited = {
                "median_itl_ms": 9.0,
                "edit_longest_gap_ms": 30.0,
                "edit_cache_hit_before": 0.8,
                "edit_cache_hit_after": 0.7,
                "edit_timeline": line if arm.storm else None,
            }
            records += [
                record(arm.name, number, loop, **figures, **edited) for loop in (CLOSED, OPEN)
            ]
    rows = [{"part": "gate", "ms": 0.1, "about": "names"}, {"part": "v*", "ms": 9, "about": "it"}]
    return {
        "machine": machine.describe("cpu"),
        "plan": asdict(FULL),
        "arms": [asdict(arm) for arm in all_arms],
        "records": records,
        "targets": judge_goals(records),
        "profile": {"A <request>": rows},
        "load_average": [0.1],
        "load_average_after": [2.0],
        "minutes": 50.0,
    }


def test_the_page_opens_offline_and_has_every_arm() -> None:
    result = made_up_result()
    text = report.html(result)
    assert "http://" not in text
    assert "https://" not in text
    assert "A &lt;request&gt;" in text
    storms = [arm for arm in arms(FULL) if arm.storm]
    assert text.count('<svg class="plot"') == 4 + 2 + 2 * len(storms) + 1
    assert text.count("<title>event</title>") == 2 * 2 * len(storms)
    for arm in arms(FULL):
        assert f"<td>{arm.name}</td>" in text
    body = text.partition("<body>")[2].partition("</body>")[0]
    ElementTree.fromstring(f"<body>{body}</body>")  # noqa: S314 - we wrote it


def test_a_late_load_generator_is_reported() -> None:
    result = made_up_result()
    assert "CAUTION" not in table.conditions(result)
    for one in result["records"]:
        one["edit_client_lag_ms"] = {"median": 40.0, "min": 0.1, "max": 200.0}
    assert "CAUTION: the load generator was 40.0 ms late" in table.conditions(result)


def test_the_table_says_what_was_met() -> None:
    result = made_up_result()
    lines = table.markdown(result).splitlines()
    assert sum(line.startswith("| storm-weight-5 |") for line in lines) == 3
    assert "| no-edits | 1.000 | 0.99 | 1.000 | 1.02 | 0 | yes |" in lines


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.timeout(900)
def test_a_quick_run(tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    command = [sys.executable, "-m", "benchmarks", "serving", "--quick", "--rounds", "1"]
    run = subprocess.run(
        [*command, "--logs", str(tmp_path), "--output", str(output)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    result = json.loads(output.read_text())
    named = [arm.name for arm in arms(QUICK)]
    assert [arm["name"] for arm in result["arms"]] == named
    by_arm = {(r["edit_arm"], r["edit_loop"]): r for r in result["records"]}
    assert set(by_arm) == {(name, loop) for name in named for loop in (CLOSED, OPEN)}
    for measured in result["records"]:
        assert measured["failed"] == 0, measured["edit_errors"]
        assert measured["completed"] == measured["num_prompts"]
        assert measured["median_ttft_ms"] > 0
        assert measured["output_throughput"] > 0
        assert measured["edit_longest_gap_ms"] > 0
    assert by_arm["plain", CLOSED]["edit_hit_share"] is None
    assert by_arm["memory-1000-0%", CLOSED]["edit_hit_share"] == 0
    assert by_arm["memory-1000-100%", CLOSED]["edit_hit_share"] > 0.9
    assert by_arm["memory-1000-100%", CLOSED]["edit_added_prompt_tokens"] > 0
    assert by_arm["storm-memory-5", CLOSED]["edit_visible_ms"] is not None
    swapped = by_arm["storm-swap-5", CLOSED]
    assert swapped["edit_swaps"] > 0
    assert swapped["edit_pause_ms"] > 0
    assert {measured["arm"] for measured in result["targets"]} >= {
        "no-edits",
        "merged",
        "storm-weight-5",
    }
    assert len(result["profile"]) == 3
    page = output.with_suffix(".html").read_text()
    assert "http://" not in page
    assert "https://" not in page
    assert page == report.html(result)
    assert table.markdown(result).splitlines()[0] in run.stdout
