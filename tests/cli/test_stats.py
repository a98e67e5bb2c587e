"""``vllm-edit stats`` on the bundled model."""

import os
import pty
import re
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from vllm_edit.cli import main

LONG = ("--layers", "1", "--tokens", "70000")

# What a shell starts in the background ignores Ctrl-C, and so do the programs that it starts.
PROGRAM = """
import signal, sys
from vllm_edit.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main(sys.argv[1:]))
"""


def run(*arguments: object) -> int:
    return main(["stats", *map(str, arguments)])


def rows(printed: str) -> dict[int, list[str]]:
    """The columns of each layer's line."""
    lines = [line.split() for line in printed.splitlines()]
    return {int(line[0]): line for line in lines if line and line[0].isdigit()}


def test_statistics_are_made_shown_and_then_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--layers", "1,2", "--output", tmp_path) == 0
    first = rows(capsys.readouterr().out)
    assert set(first) == {1, 2}
    for layer, (_, tokens, width, error, condition, ridge, seconds, name) in first.items():
        assert (tokens, width) == ("4480", "448")
        assert 0 < float(error.removesuffix("%")) < 100
        assert 1e3 < float(condition) < 1.1e8
        assert 0 <= float(ridge) < 1
        assert float(seconds) > 0
        assert re.search(rf"-layer{layer}-factworld-\w+-4480-float32\.safetensors$", name)
        assert (tmp_path / name).is_file()
    assert run("--layers", "2", "--output", tmp_path) == 0
    second = rows(capsys.readouterr().out)
    assert set(second) == {2}
    assert second[2][6] == "stored"
    assert len(list(tmp_path.iterdir())) == 2


def test_the_layers_are_the_method_s_and_the_store_is_the_server_s(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_EDIT_STORE", str(tmp_path))
    assert run("--method", "rome", "--tokens", "600", "--dtype", "bfloat16") == 0
    assert set(rows(capsys.readouterr().out)) == {2}
    (path,) = (tmp_path / "statistics").iterdir()
    assert path.name.endswith("-600-bfloat16.safetensors")


def test_a_text_that_is_too_short_is_named_as_such(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("Jiful is famous for its university.\n\n" * 60)
    arguments = ("--layers", "1", "--text", text, "--output", tmp_path / "statistics")
    assert run(*arguments) == 0
    assert "that is the whole text; 4480 tokens were wanted" in capsys.readouterr().out
    text.write_text("Jiful is famous for its university.")
    assert run(*arguments) == 1
    assert "give at least 4480 tokens" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--method", "ike"), "no method 'ike'"),
        (("--method", "ft-m"), "needs no statistics"),
        (("--layers", "9"), "layers 0 to 5, not 9"),
        (("--tokens", "9"), "give at least 4480 tokens"),
        (("--text", "no/such/text"), "no such file or folder"),
        (("no/such/model",), "is not on this machine"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], reason: str
) -> None:
    assert run(*arguments, "--output", tmp_path) == 1
    assert reason in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [("--layers", "1,x"), ("--layers", "1", "--method", "rome")])
def test_a_call_that_makes_no_sense_is_refused(arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as raised:
        run(*arguments)
    assert raised.value.code == 2


def test_a_terminal_shows_progress_and_ctrl_c_ends_it_in_order(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, "stats", *LONG, "--output", str(tmp_path)]
    terminal, end = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 100))
    with subprocess.Popen(command, stdin=end, stdout=subprocess.PIPE, stderr=end) as process:
        os.close(end)
        shown = _read_until(terminal, "tokens/s")
        process.send_signal(signal.SIGINT)
        assert "Traceback" not in shown + _read_until(terminal, "goes on")
        output, _ = process.communicate(timeout=60)
    os.close(terminal)
    assert process.returncode == 130
    assert output == b""


def _read_until(terminal: int, awaited: str) -> str:
    """What the terminal shows; OSError if the program ends before it shows what is awaited."""
    shown = ""
    while awaited not in shown:
        shown += os.read(terminal, 1000).decode()
    return shown
