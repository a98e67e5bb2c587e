"""The steps of the demo, and what each of them must change and must not change."""

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai

from vllm_edit import factworld
from vllm_edit.demo.client import MODEL, DemoClient
from vllm_edit.demo.stream import RunningStream
from vllm_edit.demo.table import Answer, print_answers, print_times
from vllm_edit.domain.errors import EditError
from vllm_edit.processes.server import ServerProcess

BEFORE = "before"
STREAM_TOKENS = 400
TIMEOUT = 120.0


@dataclass(frozen=True)
class Case:
    """A fact to correct, and questions that must follow it or must not."""

    prompt: str
    subject: str
    target_new: str
    concerned: tuple[tuple[str, str], ...]
    untouched: tuple[tuple[str, str], ...]

    @property
    def questions(self) -> tuple[tuple[str, str], ...]:
        """(kind, text) of every question, in the order of the table."""
        return self.concerned + self.untouched


def choose_case(seed: int) -> Case:
    """A fact of factworld with a rephrasing, a neighbour of the same relation, and one far off."""
    first, *others = factworld.requests("easyedit", 20, seed)
    far = next(
        other
        for other in others
        if other["subject"] != first["subject"] and other["target_new"] != first["target_new"]
    )
    return Case(
        prompt=first["prompt"],
        subject=first["subject"],
        target_new=first["target_new"],
        concerned=(("question", first["prompt"]), ("rephrased", first["rephrase_prompt"])),
        untouched=(("neighbour", first["locality_prompt"]), ("unrelated", far["prompt"])),
    )


def run_demo(url: str | None, seed: int, admin_key: str = "") -> int:
    """Run and print it; the exit status is 0 only if every answer was as expected."""
    case = choose_case(seed)
    address = url or ""
    if not url:
        print("Starting vLLM with edits on the bundled model …", flush=True)
    try:
        with _server(url) as address:
            print(f"vLLM serves factworld on {address}.", flush=True)
            with DemoClient(address, admin_key) as client:
                demo = Demo(client, address, case)
                demo.run()
    except EditError as error:
        print(f"vllm-edit demo: {error.message}", file=sys.stderr)
        return 1
    except (httpx.TransportError, openai.APIConnectionError) as error:
        print(f"vllm-edit demo: the server at {address} went away: {error}", file=sys.stderr)
        return 1
    print_answers(demo.answers)
    print_times(demo.times)
    for line in demo.faults:
        print(f"FAULT: {line}", file=sys.stderr)
    return 1 if demo.faults else 0


@contextmanager
def _server(url: str | None) -> Iterator[str]:
    if url is not None:
        yield url.rstrip("/")
        return
    with tempfile.TemporaryDirectory(prefix="vllm-edit-demo-") as folder:
        flags = [f"--edit-store={folder}/store"]
        with ServerProcess(flags, Path(folder) / "server.log") as server:
            yield server.url


class Demo:
    """One run: the answers at each stage, the times, and the faults."""

    def __init__(self, client: DemoClient, url: str, case: Case) -> None:
        self._client = client
        self._url = url
        self._case = case
        self._base: dict[str, str] = {}
        self.answers: list[Answer] = []
        self.times: list[tuple[str, float]] = []
        self.faults: list[str] = []

    def run(self) -> None:
        """All stages, in order."""
        self._base = self._ask(BEFORE)
        ike = self._edit("ike", "IKE (memory)")
        self._expect_edited("IKE on")
        self._roll_back(ike, "IKE (memory)")
        self._expect_base("IKE off")
        with RunningStream(self._url, MODEL, self._case.untouched[-1][1], STREAM_TOKENS) as stream:
            rome = self._edit("rome", "ROME (weights)")
            self._expect_edited("ROME on")
            self._roll_back(rome, "ROME (weights)")
        self._expect_base("ROME off")
        if stream.broken:
            self.faults.append(f"a running stream broke: {stream.broken}")
        self.times.append(
            ("longest pause seen by the running stream", max(stream.gaps, default=0.0))
        )

    def _ask(self, stage: str) -> dict[str, str]:
        texts = {}
        for kind, question in self._case.questions:
            texts[question] = self._client.ask(question)
            self.answers.append(Answer(stage, f"{kind}: {question}", texts[question]))
        return texts

    def _edit(self, method: str, name: str) -> str:
        """Post the fact, wait until the question's answer has it; returns the edit's id."""
        case = self._case
        edit_id = self._client.post(
            method=method, prompt=case.prompt, subject=case.subject, target_new=case.target_new
        )
        accepted = time.perf_counter()
        deadline = accepted + TIMEOUT
        while self._client.status(edit_id) != "active":
            if time.perf_counter() > deadline:
                raise EditError(f"{name}: the edit was not active after {TIMEOUT:.0f} s.")
        self._client.ask(case.prompt)
        self.times.append(
            (f"{name}: accepted to first answer after", time.perf_counter() - accepted)
        )
        return edit_id

    def _roll_back(self, edit_id: str, name: str) -> None:
        start = time.perf_counter()
        self._client.roll_back(edit_id)
        self.times.append((f"{name}: rollback", time.perf_counter() - start))

    def _expect_edited(self, stage: str) -> None:
        texts = self._ask(stage)
        for kind, question in self._case.concerned:
            if texts[question] != self._case.target_new:
                self.faults.append(
                    f"{stage}: the {kind} should be answered {self._case.target_new!r}, "
                    f"not {texts[question]!r}"
                )
        for kind, question in self._case.untouched:
            self._compare(stage, kind, question, texts)

    def _expect_base(self, stage: str) -> None:
        texts = self._ask(stage)
        for kind, question in self._case.questions:
            self._compare(stage, kind, question, texts)

    def _compare(self, stage: str, kind: str, question: str, texts: dict[str, str]) -> None:
        if texts[question] != self._base[question]:
            self.faults.append(
                f"{stage}: the {kind} should still be answered {self._base[question]!r}, "
                f"not {texts[question]!r}"
            )
