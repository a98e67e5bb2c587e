"""The guide to A/B tests in docs/ab.md, run as it stands."""

import re
import shlex
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.pages import DOCS, blocks
from vllm_edit.cli import main
from vllm_edit.processes.server import ServerProcess

URL = "http://localhost:8000"

pytestmark = [pytest.mark.slow, pytest.mark.engine, pytest.mark.timeout(1200)]


def test_the_guide_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    serve, *steps = blocks(DOCS / "ab.md")
    flags = re.sub(r"--port \d+", "", serve.text.removeprefix("vllm-edit serve"))
    names: dict[str, Any] = {}
    with ServerProcess(shlex.split(flags), tmp_path / "server.log") as server:
        for block in steps:
            step = block.text.replace(URL, server.url)
            if block.language == "python":
                exec(step, names)  # noqa: S102 - our own guide
                continue
            command, _, output = step.partition(">")
            assert main(shlex.split(command)[1:]) == 0, capsys.readouterr().err
            told = capsys.readouterr().out
            if output:
                (tmp_path / output.strip()).write_text(told)
        assert set(names["seen"]) == {"default", "memory", "adapter"}
        # The last command compared.
        table = told[told.index("| variant | reliability |") :].split("\n\n")[0]
        rows = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
        reliability = {row[0]: float(row[1].partition(" ")[0]) for row in rows}
        assert reliability.keys() == {"default", "memory", "adapter"}, told
        assert min(reliability.values()) >= 90.0, told
        assert "By these figures take" in told or "No variant is within" in told
        print(told)  # noqa: T201
        assert httpx.get(f"{server.url}/v1/edit-sets").json()["data"] == []
