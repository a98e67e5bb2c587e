"""``vllm-edit export``: weight edits as files that any other server or library reads."""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vllm_edit.cli.run_command import run_command
from vllm_edit.cli.shared_arguments import add_model_flag
from vllm_edit.domain.errors import StoreError
from vllm_edit.store import Store


def add_export_parser(commands: Any) -> None:
    """Add the command to the subparsers of ``vllm-edit``."""
    parser = commands.add_parser(
        "export",
        help="write weight edits as a PEFT adapter or into a merged checkpoint",
        description=(
            "Add up delta files, or all active weight edits of an edit store, and write the sum as "
            "one PEFT LoRA adapter or as a merged checkpoint of the model."
        ),
    )
    parser.add_argument("deltas", nargs="*", type=Path, metavar="DELTA", help="delta files")
    parser.add_argument(
        "--store", type=Store, help="export the active weight edits of this edit store"
    )
    add_model_flag(parser, "the model for which the edits were made")
    parser.add_argument("--as", dest="form", choices=("peft", "checkpoint"), required=True)
    parser.add_argument(
        "--output", type=Path, required=True, help="folder to write, which must not exist yet"
    )
    parser.add_argument(
        "--rank",
        type=int,
        help="approximate wider and dense deltas with this rank; vLLM takes ranks up to 512",
    )
    parser.set_defaults(func=export, parser=parser)


def export(options: argparse.Namespace) -> int:
    """Write the folder; status 1 with the reason if it fails, 2 for arguments that conflict."""
    if bool(options.deltas) == bool(options.store):
        options.parser.error("name delta files, or an edit store with --store")
    if options.rank is not None and options.form != "peft":
        options.parser.error("--rank goes with --as peft: a checkpoint holds edits exactly")
    # PyTorch takes seconds to import, so what needs it is imported late.
    from weight_patchers.errors import PatcherError

    return run_command("export", lambda: _export(options), more_errors=(PatcherError, OSError))


def _export(options: argparse.Namespace) -> None:
    from vllm_edit.engine.checkpoint import resolve
    from weight_patchers import Delta
    from weight_patchers.export import to_checkpoint, to_peft

    with tempfile.TemporaryDirectory(prefix="vllm-edit-") as scratch:
        paths = options.deltas or active_deltas(options.store, Path(scratch))
        deltas = [Delta.load(path) for path in paths]
    base = resolve(options.model)
    if options.form == "checkpoint":
        to_checkpoint(deltas, base, options.output)
        print(f"{options.output}: the checkpoint with {_count(deltas)} merged into it")
        return
    adapter = to_peft(deltas, base, options.output, options.rank)
    print(f"{options.output}: an adapter of rank {adapter.rank} for {_count(deltas)}")
    for parameter, error in adapter.relative_errors.items():
        if error:
            print(f"{parameter}: approximated, relative error {error:.3f}")


def active_deltas(store: Store, scratch: Path) -> list[Path]:
    """The delta files of the weight edits active in an edit store, oldest first.

    If the store is a database, its files are copied to the folder ``scratch``.

    Raises:
        StoreError: this is not an edit store, it cannot be read, or a file is missing.
    """
    from vllm_edit.ledger import deltas_of
    from vllm_edit.ledger.snapshot import reading
    from vllm_edit.weights.method import active_delta_keys

    with reading(store) as ledger:
        shared = deltas_of(ledger.log)
        folder = scratch if shared else Path(store) / "deltas"
        paths = [folder / key.file_name for key in active_delta_keys(ledger.edits())]
        for path in paths:
            if shared and not shared.get(path.name, path):
                raise StoreError(
                    f"{store.shown} has no usable {path.name}: start a server on it, which "
                    "computes it again."
                )
    return paths


def _count(deltas: Sequence[Any]) -> str:
    return f"{len(deltas)} delta{'' if len(deltas) == 1 else 's'}"
