"""``vllm-edit serac``: train the model that answers for SERAC."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vllm_edit import factworld
from vllm_edit.cli.progress import ResumedBar
from vllm_edit.cli.run_command import run_command
from vllm_edit.cli.shared_arguments import add_device

if TYPE_CHECKING:
    from vllm_edit.serac.training.data import TrainingData
    from vllm_edit.serac.training.run import Report

FACTWORLD = "factworld"
FACTWORLD_ROWS = 3200

_DESCRIPTION = """\
SERAC passes a request that an edit concerns to a small counterfactual model, with the edit and the
question. This command fine-tunes such a model; serve it with --edit-serac-model FOLDER. After an
interruption, the same command continues and repeats at most a minute of work."""

_EPILOG = """\
DATA is a JSON lines file or a folder of them. Each line is a question in the scope of an edit:

  {"edit": "The mayor of Oslo is Kim.", "question": "Who is Oslo's mayor?", "answer": "Kim",
   "subject": "Oslo"}

A tenth of the lines, chosen by "subject" (or else by "edit"), is for validation, not for training.
DATA may also be factworld: edits of the bundled world, drawn with the seed."""


def add_serac_parser(commands: Any) -> None:
    """Add the command to the subparsers of ``vllm-edit``."""
    parser = commands.add_parser(
        "serac", help="train the model that answers for SERAC", description=_DESCRIPTION
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    train = actions.add_parser(
        "train",
        help="train a counterfactual model",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    train.add_argument("--data", required=True, metavar="DATA", help="rows, or factworld")
    train.add_argument(
        "--base",
        metavar="MODEL",
        help="causal language model to start from: a folder or a name in the hub's cache "
        "(default for factworld: the bundled model)",
    )
    train.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    train.add_argument(
        "--rows",
        type=int,
        default=FACTWORLD_ROWS,
        help="number of rows drawn for factworld (default: %(default)s)",
    )
    train.add_argument("--epochs", type=float, default=1.0, help="default: %(default)s")
    train.add_argument("--batch", type=int, default=32, help="rows per step (default: 32)")
    train.add_argument(
        "--learning-rate", type=float, default=1e-4, metavar="RATE", help="default: %(default)s"
    )
    train.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    train.add_argument("--threads", type=int, default=1, help="CPU threads (default: %(default)s)")
    add_device(train)
    train.set_defaults(func=serac)


def serac(options: argparse.Namespace) -> int:
    """Train the model; status 1 with the reason if it fails, 130 on Ctrl-C."""
    return run_command(
        "serac",
        lambda: _train(options),
        interrupted="the same command goes on from the last state",
        more_errors=(OSError,),
    )


def _train(options: argparse.Namespace) -> None:
    # PyTorch takes seconds to import, so what needs it is imported late.
    import torch

    from vllm_edit.domain.errors import Unavailable
    from vllm_edit.engine.checkpoint import resolve
    from vllm_edit.serac.training.run import run
    from vllm_edit.serac.training.train import Recipe

    torch.set_num_threads(options.threads)
    if options.base is None and options.data != FACTWORLD:
        raise Unavailable("Name a model to start from: --base MODEL.")
    base = resolve(options.base) if options.base else factworld.checkpoint()
    recipe = Recipe(
        epochs=options.epochs,
        batch=options.batch,
        learning_rate=options.learning_rate,
        seed=options.seed,
    )
    report = run(base, _data(options), options.output, recipe, ResumedBar("steps"), options.device)
    _print_report(report)
    print(f"in {options.output}; serve with --edit-serac-model {options.output}")


def _data(options: argparse.Namespace) -> "TrainingData":
    from vllm_edit.serac.training.data import read_data
    from vllm_edit.serac.training.factworld_data import factworld_data

    if options.data == FACTWORLD:
        return factworld_data(options.rows, options.seed)
    return read_data(Path(options.data))


def _print_report(report: "Report") -> None:
    print(
        f"{report.parameters:,} parameters, {report.rows} rows, {report.seconds:.0f} s, "
        f"loss {report.loss:.4f}"
    )
    print(f"{'right answers about other subjects':36} before   after")
    for kind, after in report.after.items():
        print(f"{kind:36} {report.before[kind]:6.3f}  {after:6.3f}")
