"""``vllm-edit evaluate``: judge edits on the server that serves them."""

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vllm_edit.cli.run_command import run_command
from vllm_edit.cli.shared_arguments import add_admin_key, find_admin_key, integer_list
from vllm_edit.domain.errors import InvalidData

if TYPE_CHECKING:
    from vllm_edit.evaluation.plan import EvaluationPlan
    from vllm_edit.evaluation.target import Target

_DESCRIPTION = """\
Make edits on a vllm-edit server, ask it what must follow from them and what must not change, and
roll them back. The reports are result.json, table.md and report.html, which opens offline. All
methods are judged on the same edits. After an interruption, the same command continues from the
results in OUTPUT/pieces.jsonl (a sequence starts again).

Without --url, the command starts a server with a new store for each method; flags after -- go to
that server. A server at --url must have no active edits, and all its clients see the edits of the
evaluation. With --transformers there is no server: this process edits and asks the checkpoint in
the folder --model, with IKE or a weight method.

Questions are asked one after another, so that answers can be compared. What is kept is shown beside
the noise floor: the unedited model, asked twice, against itself."""

_EPILOG = """\
data (SCHEMA:FILE, a JSON list or JSON lines):
  factworld, factworld:SCHEMA   edits about the bundled world
  counterfact                   CounterFact as ROME published it
  easyedit                      EasyEdit's flat CounterFact
  zsre-alternative, zsre-true   zsRE in MEND's schema; the new answer is the false one, alt (as in
                                MEND and EasyEdit), or the true one (as in ROME and MEMIT)
  knowedit, mquake, conflictedit, qaedit, wikibigedit
  locft                         the three sets of LocFT
  unke                          facts that are paragraphs: give --tokens
  akew, akew-triples            AKEW's facts as paragraphs, or as triples

methods without an edit, to bound what a memory can do:
  plain-retrieval               the fact most like the question in front of every question
  fact-in-prompt                the record's own fact in front of each of its questions

further questions (--ask, or all):
  chat                          the prompt as a user's message
  negated                       the prompt with its meaning turned round
  yes-no                        whether a true and a false claim are true
  unrelated-in-front            the prompt behind 50 tokens of other text
  sure                          the prompt again after "Are you sure?"

regimes:
  single      each edit alone on the clean model
  batch       all edits in groups of each count, each group alone on the clean model
  sequential  one edit after the other: each is judged when it is made, and all so far at each
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
    what.add_argument("--url", help="URL of a running vllm-edit server (default: start one)")
    what.add_argument("--model", help="model to serve without --url (default: the bundled model)")
    parser.add_argument(
        "--data", default="factworld", metavar="DATA", help="see below (default: %(default)s)"
    )
    parser.add_argument(
        "--methods", type=_names, default=("ike", "rome"), help="such as ike,rome (the default)"
    )
    parser.add_argument(
        "--regimes",
        type=_names,
        default=("single",),
        help="single, batch, sequential (default: single)",
    )
    parser.add_argument(
        "--edits", type=int, default=20, help="number of records (default: %(default)s)"
    )
    parser.add_argument(
        "--counts",
        type=integer_list("1,10,100"),
        help="sizes of batches and sequences (default: EDITS)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="chooses the edits (default: %(default)s)"
    )
    parser.add_argument(
        "--fluency", action="store_true", help="also measure the n-gram entropy of sampled text"
    )
    parser.add_argument("--ask", type=_names, default=(), help="further questions, see below")
    parser.add_argument(
        "--in-order", action="store_true", help="the first records of DATA, not random ones"
    )
    only = parser.add_mutually_exclusive_group()
    only.add_argument(
        "--only-wrong",
        dest="only",
        action="store_const",
        const="wrong",
        help="only records whose target the unedited model does not tell",
    )
    only.add_argument(
        "--only-known",
        dest="only",
        action="store_const",
        const="known",
        help="only records whose true answer the unedited model tells",
    )
    parser.add_argument(
        "--tokens", type=int, default=24, help="longest answer (default: %(default)s)"
    )
    parser.add_argument(
        "--at-once",
        type=int,
        default=1,
        help="questions that a server gets together; more are faster and raise the noise floor",
    )
    parser.add_argument(
        "--bound",
        type=float,
        default=0.9,
        help="a sequence has collapsed when a smaller share is told (default: %(default)s)",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("evaluation"), help="folder (default: %(default)s)"
    )
    parser.add_argument(
        "--transformers",
        action="store_true",
        help="do without vLLM, for models that it does not serve (--model is a folder)",
    )
    parser.add_argument(
        "--device",
        default="cpu",
        help="device for --transformers, such as cuda (default: %(default)s)",
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of the answering weights with --transformers (default: %(default)s)",
    )
    add_admin_key(parser)
    parser.add_argument("flags", nargs="*", metavar="-- FLAG", help="flags of vllm-edit serve")
    parser.set_defaults(func=evaluate)


def evaluate(options: argparse.Namespace) -> int:
    """Run it; status 1 with the reason if it fails, 130 on Ctrl-C, 143 on SIGTERM."""
    # SIGTERM becomes an exception, so that edits are rolled back and started servers end.
    previous = signal.signal(signal.SIGTERM, _exit)
    try:
        return run_command(
            "evaluate",
            lambda: _evaluate(options),
            interrupted="the same command goes on from here",
        )
    finally:
        signal.signal(signal.SIGTERM, previous)


def _exit(number: int, _frame: object) -> None:
    sys.exit(128 + number)


def _evaluate(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from vllm_edit.evaluation.choosing import choose_records
    from vllm_edit.evaluation.evaluate import evaluate, job_count
    from vllm_edit.evaluation.finished_jobs import FinishedJobs
    from vllm_edit.evaluation.report import write_reports
    from vllm_edit.evaluation.sample import draw
    from vllm_edit.evaluation.summary import summarize

    plan = _plan(options)
    target = _target(options)
    choose = choose_records(plan, target, options.output / "chosen.json")
    sample = draw(plan.source, plan.edits, plan.seed, in_order=plan.in_order, choose=choose)
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
        return ServedTarget(
            key, options.url, options.model, tuple(options.flags), options.tokens, options.at_once
        )
    if options.url or options.flags:
        raise InvalidData("--transformers takes neither --url nor flags of a server.")
    if options.at_once != 1:
        raise InvalidData("--transformers asks alone: --at-once is for a server.")
    from vllm_edit import factworld
    from vllm_edit.cli.serve import FACTWORLD_SETTINGS
    from vllm_edit.evaluation.local_target import LocalTarget
    from vllm_edit.settings import Settings

    own = {} if options.model else FACTWORLD_SETTINGS
    settings = Settings.from_environment(own | os.environ)
    folder = Path(options.model or factworld.checkpoint())
    return LocalTarget(folder, options.device, settings, options.dtype, options.tokens)


def _plan(options: argparse.Namespace) -> "EvaluationPlan":
    from vllm_edit.evaluation.more_questions import KINDS
    from vllm_edit.evaluation.plan import EvaluationPlan

    return EvaluationPlan(
        source=options.data,
        methods=options.methods,
        regimes=options.regimes,
        counts=tuple(sorted(set(options.counts or (options.edits,)))),
        edits=options.edits,
        seed=options.seed,
        fluency=options.fluency,
        ask=KINDS if options.ask == ("all",) else options.ask,
        tokens=options.tokens,
        at_once=options.at_once,
        in_order=options.in_order,
        only=options.only,
        bound=options.bound,
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
