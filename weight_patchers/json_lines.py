"""Files of lines, and those of JSON that are appended to and may be cut off by a kill."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def read_lines(path: Path) -> list[str]:
    """The lines of a text file in UTF-8; a byte order mark is skipped.

    A line ends at a line feed and nowhere else: other separators of Unicode may stand in a JSON
    text. Raises OSError and UnicodeDecodeError.
    """
    return path.read_text(encoding="utf-8-sig").split("\n")


def complete_lines(path: Path) -> list[Any]:
    """All complete lines; none if there is no file.

    Removes an incomplete last line, which a killed run may leave. Raises ValueError when a
    complete line is no JSON.
    """
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    whole, _, cut = text.rpartition("\n")
    if cut:
        path.write_text(whole + "\n" if whole else "", encoding="utf-8")
    return [json.loads(line) for line in whole.split("\n") if line]


def append_line(path: Path, line: Mapping[str, Any]) -> None:
    """Add a line to the file, which is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")
