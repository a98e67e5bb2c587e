"""``vllm-edit evaluate``: judge edits on the server that serves them."""

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vllm_edit.cli.arguments import add_admin_key, find_admin_key
from vllm_edit.domain.errors import EditError, InvalidData

if TYPE_CHECKING:
    from vllm_edit.evaluation.plan import EvaluationPlan
    from vllm_edit.evaluation.target import Target

_DESCRIPTION = """\
Make edits on a vllm-edit server, ask it what must follow from them and what must stay as it was,
take them back, and report: result.json, table.md and report.html, which opens offline. Several
methods are judged on the same edits. When interrupted or killed, the same command goes on from the
pieces kept in OUTPUT/pieces.jsonl (a sequence begins anew).

Without --url a server of its own is started for each method, with a fresh store; flags after --
are given to it. A server at --url must have no edits in effect; what is edited there is seen by
all of its clients meanwhile. With --transformers no server takes part: the checkpoint in folder
--model is edited and asked in this process, by IKE or a weight method."""

_EPILOG = """\
data (SCHEMA:FILE, a JSON list or JSON lines):
  factworld, factworld:SCHEMA   edits of the bundled world
  counterfact                   CounterFact as ROME published it
  easyedit                      EasyEdit's flat CounterFact
  zsre-alternative, zsre-true   zsRE in MEND's schema, which injects the false answer alt (as MEND
                                and EasyEdit do) or the true one (as ROME and MEMIT do)
  knowedit, mquake, conflictedit

regimes:
  single      each edit from the clean model
  batch       all edits in groups of each count, each group from the clean model
  sequential  one edit after the other: each judged right after it came, and all so far at each
              count

example:
  vllm-edit evaluate --methods ike,rome --edits 24 --counts 1,8,24 --regimes single,sequential"""


def add_evaluate_parser(commands: Any) -> None:
    """Add the command to the subparsers of ``vllm-edit``."""
    parser = commands.add_parser(
        "evaluate",
        help="judge edits by reliability, generalization, locality and portability",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--url", help="a running vllm-edit server (default: start one)")
    what.add_argument("--model", help="what to serve without --url (default: the bundled model)")
    parser.add_argument(
        "--data", default="factworld", metavar="DATA", help="see below (default: %(default)s)"
    )
    parser.add_argument(
        "--methods", type=_names, default=("ike", "rome"), help="such as ike,rome (the default)"
    )
    parser.add_argument(
        "--regimes", type=_names, default=("single",), help="single, batch, sequential (single)"
    )
    parser.add_argument("--edits", type=int, default=20, help="how many records (%(default)s)")
    parser.add_argument(
        "--counts", type=_counts, help="sizes of batches and sequences (default: EDITS)"
    )
    parser.add_argument("--seed", type=int, default=0, help="which edits (default: %(default)s)")
    parser.add_argument(
        "--fluency", action="store_true", help="measure the n-gram entropy of sampled text too"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("evaluation"), help="folder (default: %(default)s)"
    )
    parser.add_argument(
        "--transformers",
        action="store_true",
        help="without vLLM, for models that it does not serve (--model is a folder)",
    )
    parser.add_argument(
        "--device", default="cpu", help="of --transformers, such as cuda (default: %(default)s)"
    )
    add_admin_key(parser)
    parser.add_argument("flags", nargs="*", metavar="-- FLAG", help="flags of vllm-edit serve")
    parser.set_defaults(func=evaluate)


def evaluate(options: argparse.Namespace) -> int:
    """Run it; status 1 with the reason if that cannot be, 130 on Ctrl-C, 143 if it is ended."""
    # What is edited must be taken back, and what was started must end, also then.
    before = signal.signal(signal.SIGTERM, _end)
    try:
        _evaluate(options)
    except EditError as error:
        print(f"vllm-edit evaluate: {error.message}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("vllm-edit evaluate: the same command goes on from here", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _end(number: int, _frame: object) -> None:
    sys.exit(128 + number)


def _evaluate(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from vllm_edit.evaluation.evaluate import evaluate, job_count
    from vllm_edit.evaluation.finished_jobs import FinishedJobs
    from vllm_edit.evaluation.report import write_reports
    from vllm_edit.evaluation.sample import draw
    from vllm_edit.evaluation.summary import summarize

    plan = _plan(options)
    target = _target(options)
    sample = draw(plan.source, plan.edits, plan.seed)
    journal = FinishedJobs(options.output / "pieces.jsonl", plan, sample, target.name)
    with tqdm(total=job_count(plan), unit="job", disable=None) as bar:

        def step(method: str) -> None:
            bar.set_description(method, refresh=False)
            bar.update()

        evaluate(plan, sample, target, journal, step)
    result = summarize(plan, sample, target.name, journal)
    print(write_reports(result, options.output))


def _target(options: argparse.Namespace) -> "Target":
    if not options.transformers:
        from vllm_edit.evaluation.served_target import ServedTarget

        key = find_admin_key(options.admin_key_file)
        return ServedTarget(key, options.url, options.model, tuple(options.flags))
    if options.url or options.flags:
        raise InvalidData("--transformers takes neither --url nor flags of a server.")
    from vllm_edit import factworld
    from vllm_edit.cli.serve import FACTWORLD_SETTINGS
    from vllm_edit.evaluation.local_target import LocalTarget
    from vllm_edit.settings import Settings

    own = {} if options.model else FACTWORLD_SETTINGS
    settings = Settings.from_environment(own | os.environ)
    return LocalTarget(Path(options.model or factworld.checkpoint()), options.device, settings)


def _plan(options: argparse.Namespace) -> "EvaluationPlan":
    from vllm_edit.evaluation.plan import EvaluationPlan

    return EvaluationPlan(
        source=options.data,
        methods=options.methods,
        regimes=options.regimes,
        counts=options.counts or (options.edits,),
        edits=options.edits,
        seed=options.seed,
        fluency=options.fluency,
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _counts(text: str) -> tuple[int, ...]:
    try:
        return tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no list such as 1,10,100") from error
