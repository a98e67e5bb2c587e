"""The text that key statistics are made from."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vllm_edit.errors import Unavailable

# A piece this long fills the statistics' context; longer paragraphs are handed on in pieces.
_PIECE_CHARS = 4000


@dataclass(frozen=True)
class Corpus:
    """A text and a name for it that changes with its content. `texts()` starts it anew."""

    name: str
    texts: Callable[[], Iterator[str]]


def corpus_for(model: Path, text: Path | None) -> Corpus:
    """The text that the user named or, for factworld, its own.

    Raises Unavailable when there is none, or when the named one cannot be read.
    """
    if text is not None:
        return _from_files(text)
    from vllm_edit import factworld

    if model.resolve() == factworld.checkpoint().resolve():
        return Corpus("factworld", factworld.corpus)
    raise Unavailable(
        "Weight edits need a text that statistics of this model are made from: start the server "
        "with --edit-statistics-text FILE, any plain text in the model's languages.",
        code="no_statistics_text",
    )


def _from_files(text: Path) -> Corpus:
    files = sorted(text.rglob("*.txt")) if text.is_dir() else [text]
    if not files:
        raise Unavailable(f"The folder {text} holds no .txt file: name a text file.")
    digest = hashlib.sha256()
    try:
        for path in files:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    except OSError as error:
        raise Unavailable(f"The statistics text {text} cannot be read: {error}") from error

    def texts() -> Iterator[str]:
        for path in files:
            yield from _paragraphs(path)

    return Corpus(f"text-{digest.hexdigest()[:16]}", texts)


def _paragraphs(path: Path) -> Iterator[str]:
    """Runs of lines without an empty one between, in pieces of a few thousand characters."""
    lines: list[str] = []
    with path.open(encoding="utf-8", errors="replace") as file:
        while line := file.readline(_PIECE_CHARS):
            if line.strip():
                lines.append(line)
            if lines and (not line.strip() or sum(map(len, lines)) >= _PIECE_CHARS):
                yield "".join(lines).strip()
                lines = []
    if lines:
        yield "".join(lines).strip()
