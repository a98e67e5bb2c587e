"""What a search has found so far, in a file, so that it can be resumed."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from weight_patchers.errors import UnreadableText
from weight_patchers.json_lines import append_line, complete_lines


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
            append_line(path, wanted)
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
        append_line(self._path, {"key": key, "value": value})
        self._found[key] = json.loads(json.dumps(value))

    def seconds(self, method: str) -> float:
        """The time that the method's trials have taken."""
        values = (value for value in self._found.values() if isinstance(value, dict))
        return float(sum(value["took"] for value in values if value.get("method") == method))

    def _lines(self) -> list[Any]:
        try:
            return complete_lines(self._path)
        except ValueError as error:
            raise UnreadableText(f"{self._path} holds no findings: delete it") from error


def digest(value: Any) -> str:
    """A short hash of a JSON value."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
