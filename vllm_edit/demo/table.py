"""What the demo shows: answers by question and stage, and how long things took."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDTH = 100
CHANGED = "* "
NOTHING = "(nothing)"
NOT_ASKED = "-"
LONGEST_ANSWER = 60


@dataclass(frozen=True)
class Answer:
    """What the server said to a question at a stage. A question is asked once a stage."""

    stage: str
    question: str
    text: str


def print_answers(answers: Sequence[Answer], file: TextIO | None = None) -> None:
    """Print question x stage, in order of first appearance, to `file` or standard output.

    An answer that differs from the question's first one is marked with an asterisk, on a
    terminal in colour too. At most `WIDTH` columns; anything a model may have said is shown
    as plain text on one line.
    """
    stages = list(dict.fromkeys(answer.stage for answer in answers))
    by_question: dict[str, dict[str, str]] = {}
    for answer in answers:
        by_question.setdefault(answer.question, {})[answer.stage] = answer.text
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", overflow="fold", min_width=20, max_width=36)
    for stage in stages:
        table.add_column(Text(stage), overflow="fold")
    for question, texts in by_question.items():
        first = next(iter(texts.values()))
        cells = [_cell(texts[s], texts[s] != first) if s in texts else NOT_ASKED for s in stages]
        table.add_row(Text(_one_line(question)), *cells)
    console = _console(file)
    console.print(table)
    console.print(f"{CHANGED}differs from the first answer to the question", style="dim")


def print_times(times: Sequence[tuple[str, float]], file: TextIO | None = None) -> None:
    """Print names and durations in seconds, in their order, to `file` or standard output."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("time", overflow="fold")
    table.add_column("", justify="right", no_wrap=True)
    for name, seconds in times:
        table.add_row(Text(_one_line(name)), duration(seconds))
    _console(file).print(table)


def duration(seconds: float) -> str:
    """Milliseconds below a second, else seconds."""
    milliseconds = round(seconds * 1000)
    return f"{milliseconds} ms" if milliseconds < 1000 else f"{seconds:.2f} s"


def _cell(text: str, changed: bool) -> Text:
    line = _one_line(text) or NOTHING
    if len(line) > LONGEST_ANSWER:
        line = line[: LONGEST_ANSWER - 1] + "…"
    return Text(CHANGED + line, style="bold green") if changed else Text(line)


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _console(file: TextIO | None) -> Console:
    console = Console(file=file, highlight=False)
    console.width = min(console.width, WIDTH) if console.is_terminal else WIDTH
    return console
