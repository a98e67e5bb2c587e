"""The imports of SERAC's processes, and when the processes end."""

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.serac.conftest import wait_until
from vllm_edit import factworld

PARENT = """
import asyncio, pathlib, sys
from vllm_edit.serac.child_server import ChildServer, ChildOptions

async def main():
    process = ChildServer(ChildOptions(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])))
    await process.connect()
    print(process.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_client_side_imports_neither_torch_nor_vllm() -> None:
    code = (
        "import sys, vllm_edit.serac.child_server as p; print({'torch', 'vllm'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_model_ends_with_the_process_that_started_it() -> None:
    with tempfile.TemporaryDirectory(prefix="serac-") as folder:
        command = [sys.executable, "-c", PARENT, str(factworld.checkpoint()), folder]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
            assert parent.stdout is not None
            pid = int(parent.stdout.readline())
            assert _alive(pid)
            parent.kill()
        wait_until(lambda: not _alive(pid))
