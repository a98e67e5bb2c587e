"""``vllm-edit export``: weight edits as files that any other server or library reads."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vllm_edit.cli.arguments import add_model_flag
from vllm_edit.errors import EditError, StoreError


def add_export_parser(commands: Any) -> None:
    """Add the command to the subparsers of ``vllm-edit``."""
    parser = commands.add_parser(
        "export",
        help="write weight edits as a PEFT adapter or into a merged checkpoint",
        description=(
            "Write the sum of delta files, or of every weight edit active in an edit store that no "
            "server has open, as one PEFT LoRA adapter or as a merged checkpoint of the model."
        ),
    )
    parser.add_argument("deltas", nargs="*", type=Path, metavar="DELTA", help="delta files")
    parser.add_argument("--store", type=Path, help="export what is active in this edit store")
    add_model_flag(parser, "the model that the edits were made for")
    parser.add_argument("--as", dest="form", choices=("peft", "checkpoint"), required=True)
    parser.add_argument(
        "--output", type=Path, required=True, help="folder to write, which must not exist yet"
    )
    parser.add_argument(
        "--rank",
        type=int,
        help="approximate what is wider, and dense deltas, by this rank; vLLM takes up to 512",
    )
    parser.set_defaults(func=export, parser=parser)


def export(options: argparse.Namespace) -> int:
    """Write the folder; status 1 with the reason if it cannot be, 2 if the call makes no sense."""
    if bool(options.deltas) == bool(options.store):
        options.parser.error("name delta files, or an edit store with --store")
    if options.rank is not None and options.form != "peft":
        options.parser.error("--rank goes with --as peft: a checkpoint holds edits exactly")
    # Imported only now, like all that brings PyTorch with it: it takes seconds.
    from weight_patchers.errors import PatcherError

    try:
        _export(options)
    except (EditError, PatcherError, OSError) as error:
        print(f"vllm-edit export: {error}", file=sys.stderr)
        return 1
    return 0


def _export(options: argparse.Namespace) -> None:
    from vllm_edit.engine.checkpoint import resolve
    from weight_patchers import Delta
    from weight_patchers.export import to_checkpoint, to_peft

    paths = active_deltas(options.store) if options.store else options.deltas
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


def active_deltas(store: Path) -> list[Path]:
    """The delta files of the weight edits active in an edit store, oldest first.

    Raises:
        StoreLocked: a server has the store open.
        StoreError: the folder is no edit store.
    """
    from vllm_edit.edit import Status
    from vllm_edit.ledger import Ledger
    from vllm_edit.weights import WeightMethod, grouped

    path = store / "ledger.sqlite3"
    if not path.is_file():
        raise StoreError(f"{store} is no edit store: name the folder given as --edit-store.")
    with Ledger(path) as ledger:
        edits = [edit for edit in ledger.edits() if edit.status is Status.ACTIVE]
    groups = grouped(edit for edit in edits if edit.request.method in WeightMethod.names)
    return [store / "deltas" / key.file_name for key in groups]


def _count(deltas: Sequence[Any]) -> str:
    return f"{len(deltas)} delta{'' if len(deltas) == 1 else 's'}"
