"""Sources of text: a file, a folder of files, or a dataset of the Hugging Face hub."""

import codecs
import hashlib
import importlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weight_patchers.errors import UnreadableText

COLUMN = "text"
SUFFIXES = (".txt", ".md", ".jsonl")

# Longer paragraphs are split. This exceeds the longest row of tokens that is read at once.
_PIECE_CHARS = 4000
_DATASET = re.compile(r"[\w.-]+(/[\w.-]+)?(:[^:]*){0,2}")


@dataclass(frozen=True)
class Source:
    """A text and a name for it, fit for file names, that changes with its content.

    Each call of `texts()` starts again and gives the same texts in the same order.
    """

    name: str
    texts: Callable[[], Iterator[str]]


def open_source(where: str | Path, column: str = COLUMN) -> Source:
    """The text at `where`: a path that exists, or else a dataset of the hub.

    A file ending in .jsonl gives the field `column` of each line, any other its paragraphs. A
    folder gives its .txt, .md and .jsonl files, with those in subfolders, by name. A dataset
    is `name`, `name:config` or `name:config:split` (default split: train), and is streamed.
    Raises UnreadableText, here or from `texts()`, when there is no such text.
    """
    path = Path(where)
    if path.exists():
        return from_files(path, column)
    if not _DATASET.fullmatch(str(where)):
        raise UnreadableText(f"the text {where} cannot be read: there is no such file or folder")
    name, config, split = [*str(where).split(":"), "", ""][:3]
    return from_dataset(name, config or None, split or "train", column)


def from_files(path: Path, column: str = COLUMN) -> Source:
    """The text of a file or folder; reads it once to name it by a SHA-256 of its content."""
    files = [path]
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES and p.is_file())
    if not files:
        raise UnreadableText(f"the folder {path} holds no {', '.join(SUFFIXES)} file")
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{_content(file)} {column if _is_records(file) else ''}\n".encode())

    def texts() -> Iterator[str]:
        for file in files:
            yield from _records(file, column) if _is_records(file) else _paragraphs(file)

    return Source(f"text-{digest.hexdigest()[:16]}", texts)


def from_dataset(name: str, config: str | None, split: str, column: str = COLUMN) -> Source:
    """The rows of a dataset, streamed by the `datasets` library.

    The name changes with the dataset's revision. Rows come in the dataset's own order.
    """
    library = _datasets(name)
    try:
        builder = library.load_dataset_builder(name, config)
        rows = builder.as_streaming_dataset(split=split)
    except (OSError, ValueError, RuntimeError) as error:
        raise UnreadableText(
            f"{name} is no file or folder here, and as a dataset it cannot be read: {error}"
        ) from error
    identity = json.dumps([name, config, split, column, builder.hash])
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    short = re.sub(r"[^\w.]+", "-", name).strip("-")[-40:]

    def texts() -> Iterator[str]:
        try:
            for number, row in enumerate(rows):
                yield from _text(row, column, f"row {number} of the dataset {name}")
        except OSError as error:
            raise UnreadableText(f"the dataset {name} cannot be read on: {error}") from error

    return Source(f"{short}-{digest}", texts)


def _datasets(name: str) -> Any:
    try:
        return importlib.import_module("datasets")
    except ImportError as error:
        raise UnreadableText(
            f"{name} is no file or folder here, and datasets of the Hugging Face hub need the "
            "datasets library: run pip install 'vllm-edit[datasets]', or pip install datasets"
        ) from error


def _is_records(path: Path) -> bool:
    return path.suffix == ".jsonl"


def _content(path: Path) -> str:
    """The SHA-256 of a file, all of which is text."""
    if path.suffix == ".json":
        raise UnreadableText(f"{path} is JSON: give plain text, or a JSON object a line as .jsonl")
    digest, decoder = hashlib.sha256(), codecs.getincrementaldecoder("utf-8")()
    try:
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
                if "\0" in decoder.decode(piece):
                    raise UnreadableText(f"{path} is no text, or in UTF-16: give text in UTF-8")
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise UnreadableText(
            f"{path} is no text in UTF-8 ({error}): unpack it, or convert it first"
        ) from error
    except OSError as error:
        raise UnreadableText(f"the text {path} cannot be read: {error}") from error
    return digest.hexdigest()


def _paragraphs(path: Path) -> Iterator[str]:
    """Runs of lines between empty lines, in pieces of a few thousand characters."""
    lines: list[str] = []
    with path.open(encoding="utf-8-sig") as file:
        while line := file.readline(_PIECE_CHARS):
            if line.strip():
                lines.append(line)
            if lines and (not line.strip() or sum(map(len, lines)) >= _PIECE_CHARS):
                yield "".join(lines).strip()
                lines = []
    if lines:
        yield "".join(lines).strip()


def _records(path: Path, column: str) -> Iterator[str]:
    """The field of every line; empty lines are left out."""
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                where = f"line {number} of {path}"
                yield from _text(_parsed(line, where), column, where)


def _parsed(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise UnreadableText(f"{where} is not JSON: {error}") from error


def _text(row: Any, column: str, where: str) -> Iterator[str]:
    """The row's text, if it is not empty; no text (null) counts as empty."""
    if not isinstance(row, dict) or column not in row:
        fields = ", ".join(row) if isinstance(row, dict) else "no fields"
        raise UnreadableText(f"{where} has no {column!r} (it has {fields}): name its text field")
    value = row[column]
    if value is not None and not isinstance(value, str):
        raise UnreadableText(f"{where} has a {type(value).__name__} as {column!r}, not a text")
    if value and value.strip():
        yield value
