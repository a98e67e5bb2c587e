"""The servers that the arms share. Each starts once and stays up for all rounds."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from vllm_edit import factworld
from vllm_edit.cli.serve import FACTWORLD_FLAGS, FACTWORLD_SETTINGS
from vllm_edit.evaluation.server_client import ServerClient
from vllm_edit.processes.server import ServerProcess
from vllm_edit.vllm_interface.launch import ENTRY_MODULE

PLAIN, UNEDITED, EDITED, LARGE, ADAPTERS = "plain", "unedited", "edited", "large", "adapters"

MODEL = "factworld"
MAX_ADAPTERS = 16
_STARTING = 2
"""Servers that start at a time: a start uses about one thread."""
_ENTRY = (sys.executable, "-m", ENTRY_MODULE)
_OURS = (
    "--edit-max-rate=0",
    "--edit-max-batch=100000",
    f"--edit-max-body-bytes={1 << 28}",
)
_ADAPTERS = ("--enable-lora", "--max-lora-rank=8", f"--max-loras={MAX_ADAPTERS}")
_LAZY = {"VLLM_EDIT_EDITOR": "lazy"}
_SETTINGS: Mapping[str, Mapping[str, str]] = {
    UNEDITED: _LAZY,
    EDITED: {},
    LARGE: _LAZY,
    ADAPTERS: {},
}


@contextmanager
def started_servers(
    names: Iterable[str], folder: Path, large: Path | None
) -> Iterator[Mapping[str, str]]:
    """Run servers of the bundled model, all with the same vLLM flags; gives their URLs by name.

    Logs and stores are in `folder`. The store of the `LARGE` server is at `large` if given.
    """
    stores = {name: folder / f"store-{name}" for name in names}
    if large is not None and LARGE in stores:
        stores[LARGE] = large
    servers = {n: _server(n, store, folder / f"{n}.log") for n, store in stores.items()}
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(_STARTING))
        for server in servers.values():
            # Registered before the start, so that a server that is still starting ends too.
            stack.callback(server.stop)
        list(pool.map(ServerProcess.start, servers.values()))
        yield {name: server.url for name, server in servers.items()}


def _server(name: str, store: Path, log: Path) -> ServerProcess:
    model = str(factworld.checkpoint())
    if name == PLAIN:
        flags = [f"--model={model}", *FACTWORLD_FLAGS]
        return ServerProcess(flags, log, {"VLLM_PLUGINS": ""}, _ENTRY)
    more = _ADAPTERS if name == ADAPTERS else ()
    flags = [model, *FACTWORLD_FLAGS, *_OURS, *more, f"--edit-store={store}"]
    settings = {**FACTWORLD_SETTINGS, "VLLM_PLUGINS": "", **_SETTINGS[name]}
    return ServerProcess(flags, log, settings)


class Editor:
    """Changes the edits of one server and waits until they are in effect."""

    def __init__(self, url: str) -> None:
        self._url = url

    def make(self, name: str, edits: Iterable[Mapping[str, str]] = (), active: bool = False) -> str:
        """Create a set with these edits unless it exists. Returns the name of its variant."""
        with ServerClient(self._url) as server:
            existing = {one["name"] for one in server.get("/v1/edit-sets")["data"]}
            if name not in existing:
                server.post("/v1/edit-sets", {"name": name})
                # How well they are told is not measured here.
                new = [{**edit, "edit_set": name, "keep": True} for edit in edits]
                if new:
                    _require_active(server.post("/v1/edits", {"edits": new, "wait": True}))
                    server.wait_until_alone()
            if active:
                server.patch(f"/v1/edit-sets/{name}", {"active": True})
        return f"{MODEL}@{name}"

    def activate(self, name: str, active: bool) -> None:
        """Show or hide a set in default traffic."""
        with ServerClient(self._url) as server:
            server.patch(f"/v1/edit-sets/{name}", {"active": active})

    def end(self, name: str) -> None:
        """Delete a set with its edits, pending ones included."""
        with ServerClient(self._url) as server:
            server.delete(f"/v1/edit-sets/{name}")


def _require_active(reply: Mapping[str, list[Mapping[str, object]]]) -> None:
    failed = [edit for edit in reply["data"] if edit["status"] not in ("active", "superseded")]
    if failed:
        raise RuntimeError(f"{len(failed)} edits did not take effect: {failed[0]['error']}")
