"""A process that has imported all that a server needs, and forks servers.

A start then takes a few seconds instead of half a minute. What is forked runs the very function
that ``vllm-edit serve`` runs, and forks engine, worker and editor in its turn, where these would be
started with an interpreter of their own. Run as a program it reads orders and writes answers, each
one line of JSON.
"""

import importlib
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, NoReturn, TextIO

from tests.crash import editors
from tests.crash.points import Failure, arm

MODULES = (
    "sentence_transformers",
    "vllm.entrypoints.launchers.api_server.entry",
    "vllm.model_executor.models.llama",
    "vllm.v1.engine.core",
    "vllm.v1.executor.multiproc_executor",
    "vllm_edit.editor.process",
    "vllm_edit.plugin",
)

_ENDS: dict[int, int] = {}


def main() -> None:
    answers = _own_output()
    # So none that was killed is left behind.
    editors.adopt_orphans()
    # Shared memory of killed servers is removed by the tracker, which must outlive them.
    resource_tracker.ensure_running()
    _import_everything()
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        answer = _fork(answers, **order) if "argv" in order else _end(**order)
        print(json.dumps(answer), file=answers, flush=True)


def _own_output() -> TextIO:
    """Standard output for answers alone; whatever libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def _import_everything() -> None:
    """Import what is otherwise imported at a server's start, and let vLLM look at the model."""
    for name in MODULES:
        importlib.import_module(name)
    from vllm import AsyncEngineArgs
    from vllm.utils.import_utils import resolve_obj_by_qualname
    from vllm.v1.engine.async_llm import AsyncLLM

    from tests.crash import probes
    from vllm_edit import factworld

    made = AsyncEngineArgs(model=str(factworld.checkpoint())).create_engine_config()
    resolve_obj_by_qualname(made.parallel_config.worker_cls)
    _let_fork(AsyncLLM)
    probes.install()


def _let_fork(engine: Any) -> None:
    """Fork engines: vLLM's CPU platform asks for spawned ones when it makes a configuration."""
    make = engine.from_vllm_config

    def make_forking(**options: Any) -> Any:
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"
        return make(**options)

    engine.from_vllm_config = make_forking


def _fork(
    answers: TextIO,
    argv: Sequence[str],
    log: str,
    environment: Mapping[str, str],
    failure: Mapping[str, Any] | None,
) -> int:
    pid = os.fork()
    if pid == 0:
        answers.close()
        os.setpgid(0, 0)
        _redirect(log)
        os.environ.update(environment)
        _serve(argv, Failure(**failure) if failure else None)
    # Both do it, so that the group is there whoever comes first.
    with suppress(PermissionError, ProcessLookupError):
        os.setpgid(pid, pid)
    return pid


def _redirect(log: str) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)


def _serve(argv: Sequence[str], failure: Failure | None) -> NoReturn:
    from vllm_edit.cli.serve import serve

    status = 1
    try:
        editors.fork_them(Path(tempfile.gettempdir()))
        if failure is not None:
            arm(failure)
        status = serve(argv)
    finally:
        if sys.exc_info()[0] is not None:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _end(group: int) -> int | None:
    """How the group's first process ended, as soon as none of the group is left."""
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-group, os.WNOHANG)
            if pid == 0:
                return None
            if pid == group:
                _ENDS[group] = os.waitstatus_to_exitcode(status)
    return _ENDS[group]


if __name__ == "__main__":
    main()
