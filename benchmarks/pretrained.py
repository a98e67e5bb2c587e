"""What every method achieves on a pretrained checkpoint: told, kept, and at what cost.

CounterFact, and zsRE with the true and with the false answer injected, as far as they are given.
All in plain Transformers, with the settings that ship.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vllm_edit.cli.shared_arguments import integer_list
from vllm_edit.evaluation.evaluate import evaluate, job_count
from vllm_edit.evaluation.finished_jobs import FinishedJobs
from vllm_edit.evaluation.local_target import IKE, LocalTarget
from vllm_edit.evaluation.plan import ABLATIONS, BATCH, SINGLE, EvaluationPlan
from vllm_edit.evaluation.report import combined, write_reports
from vllm_edit.evaluation.sample import draw
from vllm_edit.evaluation.summary import summarize
from vllm_edit.settings import Settings
from weight_patchers import METHODS

ALL = (IKE, *ABLATIONS, *METHODS)


def add_parser(commands: Any) -> None:
    """Add `pretrained` to the command line."""
    parser = commands.add_parser(
        "pretrained",
        help="all methods on a pretrained checkpoint",
        description="After an interruption, the same command continues where it stopped.",
    )
    parser.add_argument("model", type=Path, help="folder of the checkpoint")
    parser.add_argument("--counterfact", help="file in the schema easyedit")
    parser.add_argument("--zsre", help="file in MEND's schema")
    parser.add_argument("--statistics-text", required=True, help="text for key statistics")
    parser.add_argument("--output", type=Path, required=True, help="folder of the reports")
    parser.add_argument("--methods", default=",".join(ALL), help="default: %(default)s")
    parser.add_argument("--edits", type=int, default=100, help="default: %(default)s")
    parser.add_argument("--regimes", default=f"{SINGLE},{BATCH}", help="default: %(default)s")
    parser.add_argument(
        "--counts", type=integer_list("10,100"), help="sizes of batches and sequences, all EDITS"
    )
    parser.add_argument("--ask", default="chat", help="as in vllm-edit evaluate")
    parser.add_argument("--tokens", type=int, default=12, help="longest answer")
    parser.add_argument("--dtype", default="float32", help="of the answering weights")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.set_defaults(func=run)


def run(options: argparse.Namespace) -> None:
    """Evaluate on each data set, and write a folder for each and a page with all of them."""
    sources = {}
    if options.counterfact:
        sources["CounterFact"] = f"easyedit:{options.counterfact}"
    if options.zsre:
        sources["zsRE, the true answer"] = f"zsre-true:{options.zsre}"
        sources["zsRE, the false answer"] = f"zsre-alternative:{options.zsre}"
    if not sources:
        sys.exit("pretrained: give --counterfact, --zsre or both")
    results = {name: _result(options, source) for name, source in sources.items()}
    page = options.output / "report.html"
    page.write_text(combined(options.model.name, results), encoding="utf-8")
    sys.stdout.write(f"{page}\n")


def _result(options: argparse.Namespace, source: str) -> dict[str, Any]:
    plan = EvaluationPlan(
        source=source,
        methods=_names(options.methods),
        regimes=_names(options.regimes),
        counts=options.counts or (options.edits,),
        edits=options.edits,
        seed=0,
        ask=_names(options.ask),
        tokens=options.tokens,
        in_order=True,
    )
    settings = {
        "VLLM_EDIT_STATISTICS_TEXT": options.statistics_text,
        "VLLM_EDIT_STORE": str(options.output / "store"),
    }
    target = LocalTarget(
        options.model,
        options.device,
        Settings.from_environment(os.environ | settings),
        options.dtype,
        options.tokens,
    )
    folder = options.output / source.partition(":")[0]
    sample = draw(source, plan.edits, plan.seed, in_order=True)
    finished = FinishedJobs(folder / "pieces.jsonl", plan, sample, target.name)
    evaluate(plan, sample, target, finished, _progress(source, job_count(plan)))
    result = summarize(plan, sample, target.name, finished)
    sys.stdout.write(f"{write_reports(result, folder)}\n")
    return result


def _progress(source: str, total: int) -> Callable[[str], None]:
    """A line for each finished job, which a log file can hold."""
    start, done = time.monotonic(), 0

    def step(method: str) -> None:
        nonlocal done
        done += 1
        minutes = (time.monotonic() - start) / 60
        sys.stderr.write(f"{source} {done}/{total} {method}, {minutes:.1f} min\n")
        sys.stderr.flush()

    return step


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)
