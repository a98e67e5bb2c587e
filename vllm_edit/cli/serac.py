"""``vllm-edit serac``: train the model that answers for SERAC."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vllm_edit import factworld
from vllm_edit.cli.arguments import add_device
from vllm_edit.domain.errors import EditError

if TYPE_CHECKING:
    from vllm_edit.serac.training.data import TrainingData
    from vllm_edit.serac.training.run import Report

FACTWORLD = "factworld"
FACTWORLD_ROWS = 3200

_DESCRIPTION = """\
SERAC leaves requests that an edit concerns to a small counterfactual model, which is given the
edit and the question. This fine-tunes one; serve it with --edit-serac-model FOLDER. Interrupted,
the same command goes on from where it was a minute before at most."""

_EPILOG = """\
DATA is a file of JSON lines or a folder of them, a question in the scope of an edit each:

  {"edit": "The mayor of Oslo is Kim.", "question": "Who is Oslo's mayor?", "answer": "Kim",
   "subject": "Oslo"}

Without "subject", which decides on the side, the edit does: one in ten is for validation, and
never trained on. Or DATA is factworld: edits of the bundled world, made up by the seed."""


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
        help="causal language model to begin with, a folder or a name in the hub's cache "
        "(default, for factworld: the bundled model)",
    )
    train.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    train.add_argument(
        "--rows",
        type=int,
        default=FACTWORLD_ROWS,
        help="how many rows factworld makes up (default: %(default)s)",
    )
    train.add_argument("--epochs", type=float, default=1.0, help="default: %(default)s")
    train.add_argument("--batch", type=int, default=32, help="rows of a step (default: 32)")
    train.add_argument(
        "--learning-rate", type=float, default=1e-4, metavar="RATE", help="default: %(default)s"
    )
    train.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    train.add_argument("--threads", type=int, default=1, help="CPU threads (default: %(default)s)")
    add_device(train)
    train.set_defaults(func=_guarded)


def _guarded(options: argparse.Namespace) -> int:
    """Status 1 with the reason if it cannot be done, 130 on Ctrl-C."""
    try:
        _train(options)
    except (EditError, OSError) as error:
        print(f"vllm-edit serac: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("vllm-edit serac: the same command goes on from the last state", file=sys.stderr)
        return 130
    return 0


def _train(options: argparse.Namespace) -> None:
    # Imported only now, like all that brings PyTorch with it: it takes seconds.
    import torch

    from vllm_edit.domain.errors import Unavailable
    from vllm_edit.engine.checkpoint import resolve
    from vllm_edit.serac.training.run import run
    from vllm_edit.serac.training.train import Recipe

    torch.set_num_threads(options.threads)
    if options.base is None and options.data != FACTWORLD:
        raise Unavailable("Name a model to begin with: --base MODEL.")
    base = resolve(options.base) if options.base else factworld.checkpoint()
    recipe = Recipe(
        epochs=options.epochs,
        batch=options.batch,
        learning_rate=options.learning_rate,
        seed=options.seed,
    )
    report = run(base, _data(options), options.output, recipe, _Bar(), options.device)
    _show(report)
    print(f"in {options.output}; serve with --edit-serac-model {options.output}")


def _data(options: argparse.Namespace) -> "TrainingData":
    from vllm_edit.serac.training.data import read_data
    from vllm_edit.serac.training.factworld_data import factworld_data

    if options.data == FACTWORLD:
        return factworld_data(options.rows, options.seed)
    return read_data(Path(options.data))


def _show(report: "Report") -> None:
    print(
        f"{report.parameters:,} parameters, {report.rows} rows, {report.seconds:.0f} s, "
        f"loss {report.loss:.4f}"
    )
    print(f"{'right answers about other subjects':36} before   after")
    for kind, after in report.after.items():
        print(f"{kind:36} {report.before[kind]:6.3f}  {after:6.3f}")


class _Bar:
    """A progress bar that begins where a resumed training does; none without a terminal."""

    def __init__(self) -> None:
        self._bar: Any = None

    def __call__(self, done: int, of: int, loss: float) -> None:
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(total=of, initial=done - 1, unit=" steps", disable=None)
        self._bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        self._bar.update(done - self._bar.n)
        if done >= of:
            self._bar.close()
