"""Processes beside the test's own that have a store open."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from vllm_edit.store import Store

WRITE = """
import sys
from vllm_edit.ledger import Entry, Log, database_of
from vllm_edit.store import Store
store, name, count = sys.argv[1:]
with Log(database_of(Store(store))) as log:
    for number in range(int(count)):
        for event in log.append([Entry("edit", f"{name}-{number}", "proposed", {})] * 2):
            print(event.revision, flush=True)
"""
"""Appends events by twos, and says the revision of each when the append has returned."""

LEAD = """
import sys
from vllm_edit.ledger import Ledger
ledger = Ledger.open(sys.argv[1])
print(ledger.leadership.lead(), flush=True)
sys.stdin.read()
"""
"""Takes the lead, says whether it has it, and stays."""

OPEN = """
import sys
from vllm_edit.ledger import Ledger
sys.stdin.readline()
Ledger.open(sys.argv[1]).close()
"""
"""Opens the store when it is told to."""


@contextmanager
def running(program: str, store: Store, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """A process that runs the program and is killed in the end."""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(store), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def lines(process: "subprocess.Popen[str]") -> Iterator[str]:
    """What it says, line by line, until its end."""
    assert process.stdout is not None
    for line in process.stdout:
        yield line.strip()
