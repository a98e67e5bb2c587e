"""The examples in README.md and docs/ that are marked with `<!-- run -->` do what they say."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cases import NEWEST
from tests.pages import PAGES, ROOT, blocks, name
from vllm_edit.processes.server import ServerProcess

ADDRESS = "localhost:8000"
CURL = 'curl() { command curl --silent --show-error --fail-with-body "$@"; }\n'

EXAMPLES = [page for page in PAGES if any(block.run for block in blocks(page))]


@pytest.mark.engine
@pytest.mark.parametrize("page", EXAMPLES, ids=name)
def test_examples_do_what_they_say(
    page: Path,
    server: ServerProcess,
    http: httpx.Client,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In order, with the names of Python examples kept from one to the next."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in (block for block in blocks(page) if block.run):
        text = block.text.replace(ADDRESS, server.url.removeprefix("http://"))
        if block.language == "python":
            exec(text, names)  # noqa: S102 - our own page
            continue
        printed = shell(text.replace("EDIT_ID", newest_edit(http)))
        if block.answer:
            *_, answer = values(printed)
            assert agrees(json.loads(block.answer), answer), printed


def shell(script: str) -> str:
    """What it prints; the test fails if one of its commands does."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", CURL + script],
        env=os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def newest_edit(http: httpx.Client) -> str:
    """The id that a reader would put for EDIT_ID; empty before the first edit."""
    edits = http.get("/v1/edits", params=NEWEST).json()["data"]
    return str(edits[0]["id"]) if edits else ""


def values(text: str) -> Iterator[Any]:
    """The JSON values in a text, one behind the other."""
    decoder = json.JSONDecoder()
    while text := text.strip():
        value, end = decoder.raw_decode(text)
        text = text[end:]
        yield value


def agrees(shown: Any, found: Any) -> bool:
    """Whether what a page shows is what was found; it may leave fields out, and ends of texts."""
    if isinstance(shown, dict):
        return all(key in found and agrees(value, found[key]) for key, value in shown.items())
    if isinstance(shown, list):
        return len(shown) == len(found) and all(map(agrees, shown, found))
    if isinstance(shown, str) and shown.endswith("…"):
        return str(found).startswith(shown.removesuffix("…"))
    return bool(shown == found)


def test_texts_may_end_early() -> None:
    assert agrees({"id": "edit-…", "ids": [1]}, {"id": "edit-07", "ids": [1], "more": 2})
    assert not agrees({"id": "edit-…"}, {"id": "set-07"})
    assert not agrees({"ids": [1]}, {"ids": [1, 2]})
