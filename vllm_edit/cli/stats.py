"""``vllm-edit stats``: key statistics of a model, made before a server needs them."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vllm_edit.cli.arguments import add_device, add_model
from vllm_edit.domain.errors import EditError, InvalidEdit
from vllm_edit.settings import Settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_DESCRIPTION = """\
Weight methods weigh a change by the second moments of the edited layers' inputs, over text that
the model reads. This makes them, shows how far they can be trusted, and stores them; what is
stored already is shown only. Sums are kept every minute: when interrupted or killed, the same
command goes on from there.

A server takes them from the folder statistics of its --edit-store, if they are of dtype float32:
give --output STORE/statistics, and the same SOURCE as --edit-statistics-text or none. It makes
what is missing itself, at the first weight edit."""

_EPILOG = """\
For each layer, and for W keys of a token:
  tokens     tokens read; by default ten for each of the W dimensions
  error      relative standard error of the moments (Frobenius norm), from two halves of the sample
  condition  condition number, ridge included
  ridge      what editing adds to the diagonal, 0 if the moments can be inverted as they are"""


def add_stats_parser(commands: Any) -> None:
    """Add the command to the subparsers of ``vllm-edit``."""
    parser = commands.add_parser(
        "stats",
        help="make the key statistics that weight edits of a model need",
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
        help="where records of .jsonl files and datasets have the text (default: %(default)s)",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--layers", type=_layers, help="such as 3,4,5, counted from 0")
    which.add_argument(
        "--method", help="the layers that this method edits (default: those of all methods)"
    )
    parser.add_argument("--tokens", type=int, help="at least this many tokens")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="what the model computes in; sums are float32 and float64 (default: %(default)s)",
    )
    add_device(parser)
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="where to store them (default: statistics in the edit store, VLLM_EDIT_STORE or "
        "vllm-edit-store)",
    )
    parser.set_defaults(func=stats)


def stats(options: argparse.Namespace) -> int:
    """Make and show them; status 1 with the reason if that cannot be, 130 on Ctrl-C."""
    # Imported only now, like all that brings PyTorch with it: it takes seconds.
    from weight_patchers.errors import PatcherError

    try:
        _stats(options)
    except (EditError, PatcherError) as error:
        print(f"vllm-edit stats: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("vllm-edit stats: the same command goes on from the sums last kept", file=sys.stderr)
        return 130
    return 0


def _stats(options: argparse.Namespace) -> None:
    from vllm_edit.editor.corpus import corpus_for
    from vllm_edit.engine.checkpoint import resolve
    from vllm_edit.processes.load_model import load
    from weight_patchers import fingerprint, statistics

    folder = resolve(options.model)
    output = options.output or Settings.from_environment().folder / "statistics"
    source = corpus_for(folder, options.text, options.text_column)
    model, tokenizer = load(folder, options.device, options.dtype)
    layers = options.layers or _edited(model, options.method)
    wanted = options.tokens or statistics.sample_size(model, layers)
    key = (fingerprint(folder), source.name, options.dtype, wanted)
    stored = _stored(output, layers, *key)
    start = time.monotonic()
    statistics.obtain(
        model,
        tokenizer,
        source,
        layers=layers,
        fingerprint=key[0],
        folder=output,
        tokens=wanted,
        progress=_Bar(),
    )
    took = f"{time.monotonic() - start:.1f}"
    print("layer   tokens  width   error  condition    ridge  seconds  file")
    for layer, entry in _stored(output, layers, *key).items():
        print(_row(output, entry, "stored" if stored.get(layer) == entry else took), flush=True)
        if entry.count < wanted:
            print(f"      that is the whole text; {wanted} tokens were wanted")
    print(f"in {output}")


def _edited(model: "PreTrainedModel", method: str | None) -> tuple[int, ...]:
    """The layers whose statistics the method, or any method, uses."""
    from weight_patchers.hyperparameters import find
    from weight_patchers.methods import METHODS

    if method is not None and method not in METHODS:
        raise InvalidEdit(f"There is no method {method!r}; there are {', '.join(METHODS)}.")
    names = METHODS if method is None else (method,)
    found = [find(METHODS[name].hparams, name, model.config) for name in names]
    layers = {layer for hparams in found if hparams.covariance for layer in hparams.layers}
    if not layers:
        raise InvalidEdit(f"The method {method} needs no statistics.")
    return tuple(sorted(layers))


def _stored(
    output: Path, layers: Sequence[int], fingerprint: str, source: str, dtype: str, count: int
) -> dict[int, Any]:
    """The entry of each layer that is stored, by layer."""
    from weight_patchers.statistics.storage import find

    found: dict[int, Any] = {}
    for layer in sorted(set(layers)):
        found |= find(output, fingerprint, [layer], source, dtype, count) or {}
    return found


def _row(output: Path, entry: Any, seconds: str) -> str:
    from weight_patchers.statistics.factor import factorize
    from weight_patchers.statistics.storage import load_moment

    moment = load_moment(output / entry.name)
    factor = factorize(moment)
    return (
        f"{entry.layer:5} {entry.count:8} {len(moment):6} {entry.error:7.2%} "
        f"{factor.condition:10.1e} {factor.ridge:8.1e} {seconds:>8}  {entry.name}"
    )


def _layers(text: str) -> tuple[int, ...]:
    try:
        return tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no list such as 3,4,5") from error


class _Bar:
    """A progress bar that begins where a resumed collection does; none without a terminal."""

    def __init__(self) -> None:
        self._bar: Any = None

    def __call__(self, done: int, of: int) -> None:
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(total=of, initial=done, unit=" tokens", unit_scale=True, disable=None)
        self._bar.update(done - self._bar.n)
        if done >= of:
            self._bar.close()
