"""What a search has found so far, in a file, so that it can be resumed."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from weight_patchers.errors import UnreadableText


class Journal:
    """A file with a JSON line for the search and one for each finding.

    Opening it reads the lines of an earlier search. Raises UnreadableText when they are of another
    one, or no findings.
    """

    def __init__(self, path: Path, head: Mapping[str, Any]) -> None:
        self._path = path
        self._found: dict[str, Any] = {}
        lines = self._lines()
        # Converted by JSON, which has no tuples, because it is compared with the line in the file.
        wanted = json.loads(json.dumps(head))
        if not lines:
            self._append(wanted)
        elif lines[0] != wanted:
            raise UnreadableText(
                f"{path} holds a search with another model, facts, text or seed: name another "
                "output folder, or delete that file"
            )
        for line in lines[1:]:
            self._found[line["key"]] = line["value"]

    def get(self, key: str) -> Any:
        """What was found under the key, or None."""
        return self._found.get(key)

    def add(self, key: str, value: Any) -> None:
        """Store a finding; it is on disk when this returns."""
        self._append({"key": key, "value": value})
        self._found[key] = json.loads(json.dumps(value))

    def seconds(self, method: str) -> float:
        """The time that the method's trials have taken."""
        values = (value for value in self._found.values() if isinstance(value, dict))
        return float(sum(value["took"] for value in values if value.get("method") == method))

    def _lines(self) -> list[Any]:
        """All complete lines. Removes an incomplete last line, which a killed run may leave."""
        if not self._path.exists():
            return []
        text = self._path.read_text(encoding="utf-8")
        whole, _, cut = text.rpartition("\n")
        if cut:
            self._path.write_text(whole + "\n" if whole else "", encoding="utf-8")
        try:
            return [json.loads(line) for line in whole.splitlines()]
        except ValueError as error:
            raise UnreadableText(f"{self._path} holds no findings: delete it") from error

    def _append(self, line: Mapping[str, Any]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def digest(value: Any) -> str:
    """A short hash of a JSON value."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
