"""The labels of MeLLo's lines, and worked examples of them."""

import json
from dataclasses import dataclass, fields
from pathlib import Path

from retriever.errors import InvalidHopFormatError


@dataclass(frozen=True, slots=True)
class HopFormat:
    """The text format in which a model decomposes a question.

    The model writes a line after each label and stops at `retrieved`, where the fact is added.
    What it writes between a fact and the next `subquestion` is not read. `final` ends the hops.
    """

    question: str = "Question:"
    subquestion: str = "Subquestion:"
    tentative: str = "Tentative answer:"
    retrieved: str = "Retrieved fact:"
    final: str = "Final answer:"
    demonstrations: str = ""
    """Worked questions in this format, put first; empty for a model trained on it."""

    @property
    def stops(self) -> list[str]:
        """Where the model stops writing a hop."""
        return [self.retrieved, self.final, f"\n{self.question}"]

    def begin(self, question: str) -> str:
        """The text that the first hop continues."""
        return f"{self.demonstrations}{self.question} {' '.join(question.split())}"


def load_hop_format(path: Path) -> HopFormat:
    """Read a JSON object of labels and `demonstrations`; missing fields keep their defaults.

    Raises `InvalidHopFormatError`.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidHopFormatError(f"{path}: no JSON can be read there ({error}).") from error
    return hop_format_from(values, str(path))


def hop_format_from(values: object, where: str = "hop format") -> HopFormat:
    """Build a format from a decoded JSON object, checking its fields."""
    names = {field.name for field in fields(HopFormat)}
    if not isinstance(values, dict) or not values.keys() <= names:
        raise InvalidHopFormatError(
            f"{where}: expected an object with some of {', '.join(sorted(names))}."
        )
    for name, value in values.items():
        if not isinstance(value, str) or (name != "demonstrations" and not value.strip()):
            raise InvalidHopFormatError(f"{where}: `{name}` must be non-empty text.")
    return HopFormat(**values)
