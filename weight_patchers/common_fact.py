"""Facts that many models tell: those that are shipped, and those of a file."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from weight_patchers.errors import InvalidEdit, UnreadableText
from weight_patchers.json_lines import read_lines

BLANK = "{}"
"""Where the subject stands in a wording."""


@dataclass(frozen=True)
class CommonFact:
    """A true fact: each of `wordings` with the subject in place of `{}` is completed by `answer`.

    The first wording is the prompt, the others reword it. Facts of one `relation` have equal
    wordings. Raises InvalidEdit when a wording has no place for the subject, or a part is empty.
    """

    relation: str
    subject: str
    answer: str
    wordings: tuple[str, ...]

    def __post_init__(self) -> None:
        if not (self.subject.strip() and self.answer.strip() and self.wordings):
            raise InvalidEdit(f"a fact of {self.relation!r} lacks its subject, answer or wording")
        if not all(BLANK in wording for wording in self.wordings):
            raise InvalidEdit(f"a wording of {self.relation!r} does not say where its subject is")

    @cached_property
    def prompts(self) -> tuple[str, ...]:
        """The wordings with the subject in them."""
        return tuple(wording.replace(BLANK, self.subject) for wording in self.wordings)


@cache
def shipped_facts() -> tuple[CommonFact, ...]:
    """The facts in `weight_patchers/facts`, in the order of the files."""
    folder = files("weight_patchers") / "facts"
    entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    return tuple(
        fact
        for entry in entries
        if entry.name.endswith(".yaml")
        for fact in _parsed(entry.read_text(encoding="utf-8"))
    )


def read_facts(path: Path) -> tuple[CommonFact, ...]:
    """The facts of a file: of JSON lines, or, if it ends in .yaml, laid out as the shipped ones.

    A JSON line has `prompt`, `subject` (literally in the prompt) and `answer`, and may have
    `rewordings`, other prompts with the subject in them, and `relation`, which by default is the
    prompt without the subject. Raises UnreadableText or InvalidEdit naming what is wrong.
    """
    try:
        read = read_lines(path)
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableText(f"the facts in {path} cannot be read: {error}") from error
    if path.suffix in (".yaml", ".yml"):
        return tuple(_parsed("\n".join(read)))
    lines = enumerate(read, 1)
    return tuple(
        _of_line(line, f"line {number} of {path}") for number, line in lines if line.strip()
    )


def _parsed(text: str) -> Iterator[CommonFact]:
    """By relation: `wordings`, and `facts` (answer by subject) or `answers` (the reverse)."""
    # Every scalar is a text: No is nobelium here, not false.
    content: dict[str, Any] = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506
    for relation, table in content.items():
        wordings = tuple(table["wordings"])
        pairs = list(table.get("facts", {}).items())
        for answer, subjects in table.get("answers", {}).items():
            pairs += [(subject, answer) for subject in subjects]
        for subject, answer in pairs:
            yield CommonFact(relation, subject, answer, wordings)


def _of_line(line: str, where: str) -> CommonFact:
    try:
        item = json.loads(line)
        subject, answer = str(item["subject"]), str(item["answer"])
        prompts = [str(item["prompt"]), *map(str, item.get("rewordings", ()))]
        relation = item.get("relation")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidEdit(
            f"{where} is no fact ({error}): give JSON with the texts prompt, subject and answer"
        ) from error
    if not all(subject and subject in prompt for prompt in prompts):
        raise InvalidEdit(f"{where}: a prompt does not contain the subject {subject!r}")
    wordings = tuple(BLANK.join(prompt.rsplit(subject, 1)) for prompt in prompts)
    return CommonFact(str(relation or wordings[0]), subject, answer, wordings)
