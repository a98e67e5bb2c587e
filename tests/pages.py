"""The documentation: README.md, CONTRIBUTING.md and docs/, and the code blocks in them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = (README, ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md")))

_BLOCK = re.compile(
    r"(?P<run><!-- run -->\n)?^```(?P<language>bash|python)\n(?P<text>.*?)^```\n"
    r"(?:\n```json\n(?P<answer>.*?)^```\n)?",
    re.DOTALL | re.MULTILINE,
)
_FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Block:
    """A code block; `run`: it is marked to be run; `answer`: the JSON block right behind it."""

    language: str
    text: str
    run: bool
    answer: str | None


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path) -> Iterator[Block]:
    """The page's shell and Python blocks, in order."""
    for match in _BLOCK.finditer(read(page)):
        yield Block(match["language"], match["text"], bool(match["run"]), match["answer"])


def spans(page: Path) -> Iterator[str]:
    """The page's pieces of inline code, each on one line."""
    for match in _SPAN.finditer(_FENCE.sub("", read(page))):
        yield " ".join(match[1].split())


def name(page: Path) -> str:
    """The page's name from the root of the repository."""
    return str(page.relative_to(ROOT))
