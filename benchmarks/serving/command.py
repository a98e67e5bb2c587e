"""The command line of the serving benchmark."""

import argparse
import json
import logging
import os
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import machine, results
from benchmarks.serving.arms import arms
from benchmarks.serving.plan import FULL, QUICK, TURNS, ServingPlan


def add_parser(commands: Any) -> None:
    """Add `serving` to the command line."""
    parser = commands.add_parser("serving", help="throughput and latency of a server with edits")
    size = parser.add_mutually_exclusive_group()
    for plan, about in (
        (QUICK, "few arms, requests and facts"),
        (TURNS, "many short rounds, which show differences of 1 % even on a busy machine"),
    ):
        flag = f"--{plan.name}"
        size.add_argument(flag, action="store_const", const=plan, dest="plan", help=about)
    parser.add_argument(
        "--arms", nargs="+", default=(), help="only these and plain, by name; see --list"
    )
    parser.add_argument("--list", action="store_true", help="show the arms and measure nothing")
    parser.add_argument("--rounds", type=int, help="rounds, each of every arm")
    parser.add_argument("--store", type=Path, help="keep the large memory here for the next run")
    parser.add_argument("--logs", type=Path, help="keep the servers' logs and stores here")
    parser.add_argument("--output", type=Path, help="JSON file for the result; the page is beside")
    parser.set_defaults(func=run, plan=FULL)


def run(options: argparse.Namespace) -> None:
    """Measure, print the tables, write the result and the page."""
    from benchmarks.serving.report import html
    from benchmarks.serving.table import markdown

    if options.list:
        sys.stdout.writelines(f"{arm.name:20} {arm.about}\n" for arm in arms(options.plan))
        return
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    logging.getLogger("benchmarks").setLevel(logging.INFO)
    # SIGTERM ends this process through its cleanup, which ends the servers.
    signal.signal(signal.SIGTERM, _end)
    with tempfile.TemporaryDirectory(prefix="vllm-edit-serving-") as scratch:
        folder = options.logs or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        result = measured(options, folder)
    kind = "" if options.plan is FULL else f"{options.plan.name}-"
    output = options.output or results.RESULTS / f"serving-{kind}cpu.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    page = output.with_suffix(".html")
    page.write_text(html(result), encoding="utf-8")
    sys.stdout.write(f"{markdown(result)}\n{output}\n{page}\n")


def _end(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def measured(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The whole result. Servers write their logs into the folder."""
    from benchmarks.serving.profile import profiles
    from benchmarks.serving.rounds import rounds
    from benchmarks.serving.summary import judge_goals

    plan: ServingPlan = options.plan
    chosen = arms(plan, options.arms)
    began, load = time.monotonic(), os.getloadavg()
    records = rounds(plan, chosen, folder, options.store, options.rounds)
    profiled = profiles(plan.many, plan.profiled, records) if plan.profiled else {}
    return {
        "machine": machine.describe("cpu"),
        "load_average": load,
        "plan": asdict(plan) | {"rounds": options.rounds or plan.rounds},
        "arms": [asdict(arm) for arm in chosen],
        "targets": judge_goals(records),
        "profile": profiled,
        "records": records,
        "load_average_after": os.getloadavg(),
        "minutes": (time.monotonic() - began) / 60,
    }
