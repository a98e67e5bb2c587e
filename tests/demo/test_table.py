import io
import os
import pty

import pytest

from vllm_edit.demo.table import Answer, duration, print_answers, print_times

STAGES = ["before", "after IKE", "IKE rolled back", "after ROME", "ROME rolled back"]
QUESTION = "question: The place of birth of Dorvan Keltrais is the city called"
OTHER = "neighbour: Who employs [bold]Trasil Gomarn[/bold]?"


def answers() -> list[Answer]:
    edited = {"after IKE", "after ROME"}
    return [
        Answer(stage, question, "Brolin" if question == QUESTION and stage in edited else "Tasar")
        for stage in STAGES
        for question in (QUESTION, OTHER)
    ]


def printed(rows: list[Answer]) -> list[str]:
    file = io.StringIO()
    print_answers(rows, file)
    return [line.strip() for line in file.getvalue().splitlines()]


def test_changed_answers_are_marked_and_others_not() -> None:
    lines = printed(answers())
    concerned = next(line for line in lines if "question:" in line)
    neighbour = next(line for line in lines if "neighbour:" in line)
    assert [cell for cell in concerned.split("  ") if "Brolin" in cell or "Tasar" in cell]
    assert concerned.count("* Brolin") == 2
    assert concerned.count("Tasar") == 3
    assert neighbour.count("Tasar") == 5
    assert "*" not in neighbour
    assert lines[-1].startswith("* differs")


def test_stages_keep_their_order() -> None:
    header = next(line for line in printed(answers()) if "before" in line)
    places = [header.index(stage) for stage in STAGES]
    assert places == sorted(places)


def test_plain_text_within_the_width() -> None:
    wide = [Answer(s, q, "x" * 300) for s in STAGES for q in (QUESTION * 3, OTHER)]
    for rows in (answers(), wide):
        lines = printed(rows)
        assert max(map(len, lines)) < 100
        assert all("\x1b" not in line for line in lines)


def test_what_a_model_says_is_shown_as_it_is_on_one_line() -> None:
    rows = [Answer("before", "q", "[red]a\n\x1b[31mb"), Answer("after", "q", " ")]
    row = next(line for line in printed(rows) if line.startswith("q"))
    assert "[red]a [31mb" in row
    assert "* (nothing)" in row


def test_a_question_not_asked_at_a_stage() -> None:
    rows = [Answer("before", "q", "a"), Answer("before", "r", "b"), Answer("after", "q", "a")]
    row = next(line for line in printed(rows) if line.startswith("r"))
    assert row.split() == ["r", "b", "-"]


def test_a_terminal_gets_colour() -> None:
    reader, writer = pty.openpty()
    with os.fdopen(writer, "w") as terminal, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TERM", "xterm-256color")
        patch.delenv("NO_COLOR", raising=False)
        print_answers(answers()[:3], terminal)
        terminal.flush()
        assert b"\x1b[" in os.read(reader, 65536)
    os.close(reader)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0431, "43 ms"), (0.0004, "0 ms"), (0.9999, "1.00 s"), (12.345, "12.35 s")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_times_are_listed_in_order() -> None:
    file = io.StringIO()
    print_times([("IKE: rollback", 0.012), ("ROME: rollback", 2.5)], file)
    rows = [line.strip().split("  ") for line in file.getvalue().splitlines() if "rollback" in line]
    assert [(row[0], row[-1].strip()) for row in rows] == [
        ("IKE: rollback", "12 ms"),
        ("ROME: rollback", "2.50 s"),
    ]
