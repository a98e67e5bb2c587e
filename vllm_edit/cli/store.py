"""``vllm-edit store``: look after an edit store without a server."""

import argparse
import json
import os
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from vllm_edit.cli.run_command import run_command
from vllm_edit.domain.actor import Actor, acting
from vllm_edit.domain.edit import ENDED, Edit, Status, Step
from vllm_edit.domain.edit_set import require_thawed
from vllm_edit.domain.errors import ConflictingState, StoreError
from vllm_edit.settings import Settings
from vllm_edit.store import Store

DELTAS = "deltas"


def add_store_parser(commands: Any) -> None:
    """Add the command to the subparsers of ``vllm-edit``."""
    parser = commands.add_parser(
        "store",
        help="check, list, roll back, back up, restore or compact an edit store",
        description="Look after an edit store without a server. To check, to list and to back up, "
        "a store may be in use or a copy that cannot be written.",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    _add(actions, "check", check, "see whether everything in it can be read")
    listing = _add(actions, "list", list_edits, "print its edits, the oldest first")
    listing.add_argument("--json", action="store_true", help="as JSON, one edit a line")
    rolling = _add(actions, "rollback", roll_back, "take edits back; no server may use the store")
    rolling.add_argument("ids", nargs="+", metavar="ID", help="id of an edit")
    backing = _add(actions, "backup", back_up, "write the log and the deltas to one file")
    backing.add_argument("file", type=Path, metavar="FILE", help="tar file, not there yet")
    restoring = _add(actions, "restore", restore, "make a store from the file of a backup")
    restoring.add_argument("file", type=Path, metavar="FILE", help="what backup wrote")
    _add(actions, "compact", compact, "remove what no edit needs; no server may use the store")


def _add(
    actions: Any, name: str, work: Callable[[argparse.Namespace], None], purpose: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=purpose, description=purpose)
    parser.add_argument(
        "--store",
        type=Store,
        metavar="STORE",
        help="what was given as --edit-store (default: as the server's)",
    )
    parser.set_defaults(func=partial(_run, name, work))
    return parser


def _run(name: str, work: Callable[[argparse.Namespace], None], options: argparse.Namespace) -> int:
    if options.store is None:
        options.store = Settings.from_environment(os.environ).store
    return run_command(f"store {name}", lambda: work(options), more_errors=(OSError,))


def check(options: argparse.Namespace) -> None:
    """Print what is in the store; raise StoreError naming what is missing or damaged."""
    from vllm_edit.ledger.snapshot import reading

    with reading(options.store) as ledger:
        edits = ledger.edits()
        print(f"{options.store.shown}: {ledger.revision} events, {len(ledger.edit_sets())} sets")
    for status, count in sorted(Counter(edit.status.value for edit in edits).items()):
        print(f"{status}: {count}")
    if options.store.shared:
        return
    faults = list(_faulty_deltas(edits, Path(options.store) / DELTAS))
    if faults:
        raise StoreError(
            f"{'; '.join(faults)}. A server that starts on the store computes them again, if it "
            "serves the model for which they were made."
        )


def _faulty_deltas(edits: Sequence[Edit], folder: Path) -> Iterator[str]:
    from vllm_edit.weights.method import active_delta_keys
    from weight_patchers import Delta, PatcherError

    for key in active_delta_keys(edits):
        try:
            Delta.load(folder / key.file_name)
        except PatcherError as error:
            yield f"the delta of {', '.join(key.edit_ids)} cannot be used ({error})"


def list_edits(options: argparse.Namespace) -> None:
    """Print a line for each edit."""
    from vllm_edit.ledger.snapshot import reading

    with reading(options.store) as ledger:
        for edit in ledger.edits():
            fields = {
                "id": edit.id,
                "status": edit.status.value,
                "method": edit.request.method,
                "edit_set": edit.request.edit_set,
                "prompt": edit.request.prompt,
                "target_new": edit.request.target_new,
            }
            if options.json:
                print(json.dumps(fields, ensure_ascii=False))
            else:
                print("\t".join(str(value or "") for value in fields.values()))


def roll_back(options: argparse.Namespace) -> None:
    """Record that edits are rolled back, all or none; what they superseded comes back."""
    actor = Actor(key="", client=f"vllm-edit store, user {os.getuid()}", request="")
    with acting(actor), _leading(options.store) as ledger:
        for edit_id in options.ids:
            edit = ledger.get(edit_id)
            if edit.status in ENDED:
                raise ConflictingState(f"{edit_id} is {edit.status.value} already.")
            if edit.request.edit_set is not None:
                require_thawed(ledger.edit_set(edit.request.edit_set))
        for edit_id in dict.fromkeys(options.ids):
            edit = ledger.get(edit_id)
            earlier = [e.id for e in ledger.edits() if e.superseded_by == edit_id]
            ledger.record([*edit.releasing(earlier), Step(edit_id, Status.ROLLED_BACK)])
            print(f"{edit_id}: rolled back")


def back_up(options: argparse.Namespace) -> None:
    """Write one file, whole or not at all."""
    from vllm_edit.ledger import LEDGER_FILE
    from vllm_edit.ledger.snapshot import ledger_file, reading, take_snapshot

    log, file = ledger_file(options.store), options.file
    if file.exists():
        raise StoreError(f"{file} is there already; name another file.")
    with reading(options.store) as ledger:
        revision = ledger.revision
    with tempfile.TemporaryDirectory(prefix=".vllm-edit-", dir=file.resolve().parent) as folder:
        copy, archive = Path(folder) / LEDGER_FILE, Path(folder) / "backup.tar"
        take_snapshot(log, copy)
        with tarfile.open(archive, "w") as tar:
            for part in sorted(Path(folder).glob(f"{LEDGER_FILE}*")):
                tar.add(part, part.name)
            for delta in sorted(log.with_name(DELTAS).glob("*.safetensors")):
                tar.add(delta, f"{DELTAS}/{delta.name}")
        archive.chmod(0o600)
        archive.rename(file)
    print(f"{file}: {options.store.shown} at revision {revision} or later")


def restore(options: argparse.Namespace) -> None:
    """Make the folder of a store; raises StoreError if there is one, or the file is no backup."""
    from vllm_edit.ledger import LEDGER_FILE
    from vllm_edit.ledger.snapshot import reading

    store = Path(options.store)
    if options.store.shared or (store / LEDGER_FILE).exists():
        raise StoreError(f"{options.store.shown} holds a store: name a new folder with --store.")
    store.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".vllm-edit-", dir=store.resolve().parent) as folder:
        _unpack(options.file, Path(folder))
        with reading(Store(folder)) as ledger:
            revision = ledger.revision
        store.mkdir(mode=0o700, exist_ok=True)
        for part in sorted(Path(folder).iterdir(), reverse=True):
            part.rename(store / part.name)
    print(f"{options.store.shown}: revision {revision}")


def _unpack(file: Path, folder: Path) -> None:
    from vllm_edit.ledger import LEDGER_FILE

    try:
        with tarfile.open(file) as tar:
            tar.extractall(folder, filter="data")
    except tarfile.TarError as error:
        raise StoreError(f"{file} is no backup of an edit store ({error}).") from error
    names = {path.name for path in folder.iterdir()}
    if not {LEDGER_FILE} <= names <= {LEDGER_FILE, f"{LEDGER_FILE}-wal", DELTAS}:
        raise StoreError(f"{file} is no backup of an edit store: it holds {sorted(names)}.")


def compact(options: argparse.Namespace) -> None:
    """Remove the deltas of edits that have ended, and give free pages back. Events all stay."""
    from vllm_edit.ledger.snapshot import ledger_file
    from vllm_edit.weights.delta_store import group_of
    from vllm_edit.weights.method import delta_group

    log = ledger_file(options.store)
    before = _size(log.parent)
    with _leading(options.store) as ledger:
        wanted = {delta_group(edit) for edit in ledger.not_ended()}
        for path in log.with_name(DELTAS).glob("*.safetensors"):
            if group_of(path.name) not in wanted:
                path.unlink()
        ledger.log.compact()
    print(f"{options.store.shown}: {before} bytes before, {_size(log.parent)} now")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@contextmanager
def _leading(store: Store) -> Iterator[Any]:
    """The ledger, which no server may have; raises StoreError and StoreLocked."""
    from vllm_edit.ledger import Ledger
    from vllm_edit.ledger.snapshot import ledger_file

    if not store.shared:
        ledger_file(store)
    with Ledger.open(store) as ledger:
        ledger.leadership.require()
        ledger.try_to_lead("")
        yield ledger
