"""Training data: edits, questions in their scope, and the answers."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vllm_edit.domain.errors import InvalidTrainingData
from weight_patchers.json_lines import read_lines

_HELD_OUT = 0.1


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """A question about an edit, which is a statement. `kind` groups rows in the report.

    The subject, or without one the statement, decides whether the row is for validation.
    """

    edit: str
    question: str
    answer: str
    subject: str = ""
    kind: str = "validation"

    @property
    def held_out(self) -> bool:
        """Whether the row is for validation. All rows about a subject agree."""
        digest = hashlib.sha256((self.subject or self.edit).casefold().encode()).digest()
        return int.from_bytes(digest[:4]) < _HELD_OUT * 2**32


@dataclass(frozen=True)
class TrainingData:
    """Training rows, and validation rows about other subjects."""

    train: list[TrainingRow]
    validation: list[TrainingRow]


def read_data(path: Path) -> TrainingData:
    """The rows of a JSON lines file, or of all such files in a folder.

    Raises:
        InvalidTrainingData: there is no file or no row, or a line is not a row.
    """
    files = sorted(path.rglob("*.jsonl")) if path.is_dir() else [path]
    return split_by_subject(row for file in files for row in _read(file))


def split_by_subject(rows: Iterable[TrainingRow]) -> TrainingData:
    """Split into training and validation; raises InvalidTrainingData without training rows."""
    data = TrainingData([], [])
    for row in rows:
        (data.validation if row.held_out else data.train).append(row)
    if not data.train:
        raise InvalidTrainingData("There are no rows to train on.")
    return data


def _read(path: Path) -> Iterator[TrainingRow]:
    try:
        lines = read_lines(path)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidTrainingData(f"{path} cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _row(line, f"Line {number} of {path}")


def _row(line: str, where: str) -> TrainingRow:
    try:
        item = json.loads(line)
        texts = [item[name] for name in ("edit", "question", "answer")]
        texts += [item.get("subject", ""), item.get("kind", "validation")]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidTrainingData(
            f"{where} is no row ({error}): give JSON with the texts edit, question and answer."
        ) from error
    if not all(isinstance(text, str) for text in texts) or not all(t.strip() for t in texts[:3]):
        raise InvalidTrainingData(f"{where} has an edit, question or answer that is no text.")
    return TrainingRow(*texts)
