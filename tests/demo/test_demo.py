"""The demo against the shared server: everything that should change does, and nothing else."""

import httpx
import pytest

from vllm_edit.cli import main
from vllm_edit.processes.server import ServerProcess


def test_the_demo_sees_what_it_should(
    server: ServerProcess, http: httpx.Client, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["demo", "--url", server.url])
    said = capsys.readouterr()
    assert status == 0, said.out + said.err
    for stage in ("before", "IKE on", "IKE off", "ROME on", "ROME off"):
        assert stage in said.out
    assert "longest pause" in said.out


def test_a_server_that_is_not_there_fails_the_demo(capsys: pytest.CaptureFixture[str]) -> None:
    nowhere = "http://127.0.0.1:9"
    assert main(["demo", "--url", nowhere]) == 1
    assert nowhere in capsys.readouterr().err
