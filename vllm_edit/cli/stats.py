"""``vllm-edit stats``: computes the key statistics of a model before a server needs them."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vllm_edit.cli.progress import ResumedBar
from vllm_edit.cli.run_command import run_command
from vllm_edit.cli.shared_arguments import add_device, add_model, integer_list
from vllm_edit.domain.errors import InvalidEdit
from vllm_edit.settings import Settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_DESCRIPTION = """\
Weight methods weigh a change by the second moments of the inputs ("keys") of the edited layers over
text that the model reads. This command computes these statistics, shows how reliable they are and
stores them. Statistics that are already stored are only shown. The sums are saved every minute:
after an interruption, the same command continues from there.

A server reads float32 statistics from the folder statistics in its --edit-store: use
--output STORE/statistics, and the SOURCE that the server has as --edit-statistics-text, or none.
The server computes missing statistics at the first weight edit."""

_EPILOG = """\
Columns, for each layer:
  tokens     tokens read; by default ten times the width
  width      dimensions of a key
  error      relative standard error of the moments (Frobenius norm), from two halves of the sample
  condition  condition number, with the ridge
  ridge      value that editing adds to the diagonal; 0 if the moments are invertible without it"""


def add_stats_parser(commands: Any) -> None:
    """Add the command to the subparsers of ``vllm-edit``."""
    parser = commands.add_parser(
        "stats",
        help="compute the key statistics that weight edits of a model need",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model(parser)
    parser.add_argument(
        "--text",
        metavar="SOURCE",
        help="a text file; a folder of .txt, .md and .jsonl files; or a dataset of the hub, NAME, "
        "NAME:CONFIG or NAME:CONFIG:SPLIT (the bundled model has a text of its own)",
    )
    parser.add_argument(
        "--text-column",
        metavar="COLUMN",
        default="text",
        help="field that holds the text in .jsonl files and datasets (default: %(default)s)",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--layers", type=integer_list("3,4,5"), help="such as 3,4,5; the first is 0")
    which.add_argument(
        "--method", help="the layers that this method edits (default: those of all methods)"
    )
    parser.add_argument("--tokens", type=int, help="at least this many tokens")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="number format of the model; sums are float32 and float64 (default: %(default)s)",
    )
    add_device(parser)
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="folder to store them in (default: statistics in the edit store, VLLM_EDIT_STORE or "
        "vllm-edit-store)",
    )
    parser.set_defaults(func=stats)


def stats(options: argparse.Namespace) -> int:
    """Compute and show them; status 1 with the reason if it fails, 130 on Ctrl-C."""
    # PyTorch takes seconds to import, so what needs it is imported late.
    from weight_patchers.errors import PatcherError

    return run_command(
        "stats",
        lambda: _stats(options),
        interrupted="the same command goes on from the sums last kept",
        more_errors=(PatcherError,),
    )


def _stats(options: argparse.Namespace) -> None:
    from vllm_edit.editor.corpus import corpus_for
    from vllm_edit.engine.checkpoint import resolve
    from vllm_edit.processes.load_model import load
    from weight_patchers import fingerprint, statistics

    folder = resolve(options.model)
    output = options.output or Settings.from_environment().folder / "statistics"
    source = corpus_for(folder, options.text, options.text_column)
    model, tokenizer = load(folder, options.device, options.dtype)
    layers = tuple(sorted(set(options.layers or _edited_layers(model, options.method))))
    tokens = options.tokens or statistics.sample_size(model, layers)
    key = (fingerprint(folder), source.name, options.dtype, tokens)
    stored = _stored(output, layers, *key)
    start = time.monotonic()
    statistics.obtain(
        model,
        tokenizer,
        source,
        layers=layers,
        fingerprint=key[0],
        folder=output,
        tokens=tokens,
        progress=ResumedBar("tokens", scale=True),
    )
    took = f"{time.monotonic() - start:.1f}"
    print("layer   tokens  width   error  condition    ridge  seconds  file")
    for layer, entry in _stored(output, layers, *key).items():
        print(_row(output, entry, "stored" if stored.get(layer) == entry else took), flush=True)
        if entry.count < tokens:
            print(f"      that is the whole text; {tokens} tokens were wanted")
    print(f"in {output}")


def _edited_layers(model: "PreTrainedModel", method: str | None) -> tuple[int, ...]:
    """The layers whose statistics the method, or any method, uses."""
    from weight_patchers.hyperparameters import find
    from weight_patchers.methods import METHODS

    if method is not None and method not in METHODS:
        raise InvalidEdit(f"There is no method {method!r}; there are {', '.join(METHODS)}.")
    names = METHODS if method is None else (method,)
    hparams_of_methods = [find(METHODS[name].hparams, name, model.config) for name in names]
    layers = {
        layer for hparams in hparams_of_methods if hparams.covariance for layer in hparams.layers
    }
    if not layers:
        raise InvalidEdit(f"The method {method} needs no statistics.")
    return tuple(layers)


def _stored(
    output: Path, layers: Sequence[int], fingerprint: str, source: str, dtype: str, count: int
) -> dict[int, Any]:
    """The stored entries, by layer."""
    from weight_patchers.statistics.storage import find

    entries: dict[int, Any] = {}
    for layer in layers:
        entries |= find(output, fingerprint, [layer], source, dtype, count) or {}
    return entries


def _row(output: Path, entry: Any, seconds: str) -> str:
    from weight_patchers.statistics.factor import factorize
    from weight_patchers.statistics.storage import load_moment

    moment = load_moment(output / entry.name)
    factor = factorize(moment)
    return (
        f"{entry.layer:5} {entry.count:8} {len(moment):6} {entry.error:7.2%} "
        f"{factor.condition:10.1e} {factor.ridge:8.1e} {seconds:>8}  {entry.name}"
    )
