"""``vllm-edit mend train`` and ``vllm-edit ke train``: train an editor for a model."""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vllm_edit import factworld
from vllm_edit.cli.progress import ResumedBar
from vllm_edit.cli.run_command import run_command
from vllm_edit.cli.shared_arguments import add_device, add_model
from vllm_edit.settings import Settings

if TYPE_CHECKING:
    from weight_patchers.trained.training.outcome import Validation
    from weight_patchers.trained.training.trainer import TrainingData

FACTWORLD, FACTS = "factworld", "facts"

_METHODS = {
    "mend": "a network edits the gradient of each edit (Mitchell et al. 2022)",
    "ke": "a network masks the gradient of each edit (De Cao et al. 2021)",
}

_DESCRIPTION = """\
{about}. This command trains the network for a model, on one model alone: the editor's file is bound
to the checkpoint. A server reads it from the folder trained in its --edit-store, or from
--edit-trained-editors FOLDER.

Beside the editor's file there is a report with the figures of all validations. After an
interruption, the same command goes on; with more --minutes or after an interruption it repeats at
most a minute of work."""

_EPILOG = """\
DATA is one of
  factworld      edits of the bundled world; the default for the bundled model
  facts          counterfactuals about the shipped list of common facts, in English; the default
                 for other models
  SCHEMA:FILE    records of a data set in the schema easyedit, zsre, counterfact, knowedit, ...
                 with rephrasings and questions about something else
A tenth of the subjects is for validation, not for training."""


def add_editor_parsers(commands: Any) -> None:
    """Add a command for each method to the subparsers of ``vllm-edit``."""
    for method, about in _METHODS.items():
        parser = commands.add_parser(method, help=f"train {method}'s editor: {about}")
        actions = parser.add_subparsers(metavar="ACTION", required=True)
        train = actions.add_parser(
            "train",
            help="train an editor for a model",
            description=_DESCRIPTION.format(about=f"{method}: {about}"),
            epilog=_EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        _add_arguments(train)
        train.set_defaults(func=partial(train_editor, method))


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("--data", metavar="DATA", help="what to train on; see below")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="folder for the editor (default: trained in the edit store, VLLM_EDIT_STORE or "
        "vllm-edit-store)",
    )
    parser.add_argument("--steps", type=int, help="steps (default: the method's for the model)")
    parser.add_argument("--batch", type=int, help="edits in a step (likewise)")
    parser.add_argument("--rate", type=float, help="learning rate of the networks (likewise)")
    parser.add_argument(
        "--validate-every", type=int, metavar="STEPS", help="steps between validations (likewise)"
    )
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="end training after this time"
    )
    parser.add_argument(
        "--hparams", type=Path, metavar="FILE", help="as for vllm-edit serve --edit-hparams"
    )
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: %(default)s)")
    add_device(parser)


def train_editor(method: str, options: argparse.Namespace) -> int:
    """Train; status 1 with the reason if it fails, 130 on Ctrl-C."""
    # PyTorch takes seconds to import, so what needs it is imported late.
    from weight_patchers.errors import PatcherError

    return run_command(
        method,
        lambda: _train(method, options),
        interrupted="the same command goes on from the last state",
        more_errors=(PatcherError, OSError),
    )


def _train(method: str, options: argparse.Namespace) -> None:
    import torch

    from vllm_edit.editor.training import EditorPlan, train_editor
    from vllm_edit.engine.checkpoint import resolve
    from vllm_edit.weights.hyperparameters import read_hyperparameters

    torch.set_num_threads(options.threads)
    folder = resolve(options.model)
    own = read_hyperparameters(options.hparams, folder) if options.hparams else {}
    names = ("steps", "batch", "rate", "validate_every")
    plan = EditorPlan(
        method=method,
        model=folder,
        output=options.output or Settings.from_environment().trained_folder,
        hparams=own.get(method, {}),
        recipe={name: getattr(options, name) for name in names if getattr(options, name)},
        seed=options.seed,
        minutes=options.minutes,
        device=options.device,
    )
    bundled = folder.resolve() == factworld.checkpoint().resolve()
    source = options.data or (FACTWORLD if bundled else FACTS)
    print("   step    loss     nll      kl   told  reworded   kept")
    data, bar = _data(source, options.seed), ResumedBar("steps")
    path, report = train_editor(plan, data, source, bar, _print_row)
    print("as stored:")
    _print_row(report.validation)
    print(f"{path}: serve it with --edit-trained-editors {path.parent}")


def _data(source: str, seed: int) -> "Callable[[int], TrainingData]":
    from vllm_edit.evaluation.data.source import load
    from vllm_edit.evaluation.training_data import from_facts, from_records
    from vllm_edit.factworld.training_edits import training_data
    from weight_patchers.common_fact import shipped_facts

    if source == FACTWORLD:
        return partial(training_data, seed)
    if source == FACTS:
        return partial(from_facts, shipped_facts(), seed)
    return partial(from_records, load(source, 0, seed))


def _print_row(row: "Validation") -> None:
    print(
        f"{row.step:7} {row.loss:7.3f} {row.nll:7.3f} {row.kl:7.4f} {row.told:6.2f} "
        f"{row.reworded:9.2f} {row.kept:6.2f}",
        flush=True,
    )
