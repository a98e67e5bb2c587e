"""The documentation names everything there is, and nothing that there is not."""

import os
import pkgutil
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from scripts import settings_table
from tests.pages import DOCS, PAGES, README, ROOT, blocks, name, read, spans
from vllm_edit import __version__
from vllm_edit.api.attach import router
from vllm_edit.cli import _parser
from vllm_edit.memory.method import MemoryMethod
from vllm_edit.weights.method import WeightMethod

SOURCES = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "vllm_edit").rglob("*.py"))]


def test_the_table_of_settings_is_up_to_date() -> None:
    assert read(settings_table.PAGE) == settings_table.page(read(settings_table.PAGE))


def test_every_route_is_named() -> None:
    for route in router.routes:
        path = route.path.replace("edit_id", "id")  # type: ignore[attr-defined]
        for method in route.methods:  # type: ignore[attr-defined]
            assert f"| `{method} {path}` |" in read(DOCS / "http-api.md")


@pytest.mark.parametrize("page", [README, DOCS / "methods.md"], ids=name)
def test_every_method_is_described(page: Path) -> None:
    for method in MemoryMethod.names | WeightMethod.names:
        assert f"| `{method}` |" in read(page)


def test_every_command_is_named() -> None:
    commands = re.search(r"COMMAND(.*)", _parser().format_help(), re.DOTALL)
    assert commands is not None
    everything = "".join(map(read, PAGES))
    for command in re.findall(r"^ {4}(\w+)", commands[1], re.MULTILINE):
        assert f"vllm-edit {command}" in everything or f"make {command}" in everything


def test_every_metric_is_named() -> None:
    metric = re.compile(r'(Counter|Gauge|Histogram)\(\s*"(vllm_edit_\w+)"')
    found = {match.groups() for source in SOURCES for match in metric.finditer(source)}
    assert found
    shown = read(DOCS / "monitoring.md")
    for kind, metric_name in found:
        full_name = f"{metric_name}_total" if kind == "Counter" else metric_name
        assert f"| `{full_name}` | {kind.lower()} |" in shown


def test_every_header_is_named() -> None:
    header = re.compile(r'"(x-edit-[a-z-]+)"', re.IGNORECASE)
    found = {match[1].lower() for source in SOURCES for match in header.finditer(source)}
    assert found
    shown = read(DOCS / "http-api.md").lower()
    for header_name in found:
        assert f"`{header_name}`" in shown


def test_every_room_is_described() -> None:
    contracts = tomllib.loads(read(ROOT / "pyproject.toml"))["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    shown = read(DOCS / "architecture.md")
    for room in (room for layer in layers for room in re.findall(r"\w+", layer)):
        assert f"`{room}`" in shown


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_files_and_modules_that_are_named_exist(page: Path) -> None:
    file = re.compile(
        r"(benchmarks|docs|requirements|retriever|tests|vllm_edit|weight_patchers)/\S+"
    )
    module = re.compile(r"(retriever|weight_patchers|vllm_edit)(\.\w+)+")
    for span in spans(page):
        if file.fullmatch(span):
            assert any(ROOT.glob(span)), span
        elif module.fullmatch(span):
            assert pkgutil.resolve_name(span), span


def test_the_readme_is_short() -> None:
    assert len(read(README).splitlines()) <= 160


def test_the_changelog_knows_the_version() -> None:
    assert f"\n## [{__version__}] - " in read(ROOT / "CHANGELOG.md")


def test_every_page_is_in_the_navigation() -> None:
    navigation = yaml.safe_load(read(ROOT / "mkdocs.yml"))["nav"]
    assert sorted(_pages(navigation)) == sorted(
        page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")
    )


def _pages(navigation: object) -> Iterator[str]:
    if isinstance(navigation, str):
        yield navigation
        return
    assert isinstance(navigation, list | dict)
    for item in navigation.values() if isinstance(navigation, dict) else navigation:
        yield from _pages(item)


@pytest.mark.parametrize("page", [p for p in PAGES if p.parent == ROOT], ids=name)
def test_links_from_outside_the_site_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", read(page)):
        path, _, anchor = target.partition("#")
        linked = ROOT / path if path else page
        assert linked.is_file(), target
        assert not anchor or anchor in _anchors(linked), target


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", read(page), re.MULTILINE)
    return {
        re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


def test_the_site_has_no_dead_link(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", f"--site-dir={tmp_path}"],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    # Readers need no other host, and other hosts learn of no reader.
    loaded = re.compile(
        r'<(?:script|img|iframe)[^>]* src="https?:|<link[^>]*stylesheet[^>]*https?:'
    )
    for file in tmp_path.rglob("*.html"):
        assert not loaded.search(read(file)), file.name


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_can_be_given(page: Path) -> None:
    """Each has targets, subcommands and flags that exist."""
    for words in _commands(page):
        program, *arguments = words
        if program.endswith("vllm-edit"):
            _require_known(arguments)
        elif program == "make":
            targets = [word for word in arguments if "=" not in word]
            assert all(re.search(rf"^{t}:", read(ROOT / "Makefile"), re.MULTILINE) for t in targets)
        elif words[1:3] == ["-m", "benchmarks"] and len(words) > 3 and words[3].islower():
            benchmark = ROOT / "benchmarks" / words[3]
            assert benchmark.is_dir() or benchmark.with_suffix(".py").is_file()


def _commands(page: Path) -> Iterator[list[str]]:
    lines = [
        line for block in blocks(page) if block.language == "bash" for line in _lines(block.text)
    ]
    for line in [
        *lines,
        *(span for span in spans(page) if span.startswith(("make ", "vllm-edit "))),
    ]:
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words.pop(0)
        if words:
            yield words[: words.index(">")] if ">" in words else words


def _lines(text: str) -> Iterator[str]:
    """Its commands: a quoted JSON body and a backslash go on to the next line."""
    line = ""
    for part in text.splitlines():
        line += part.removesuffix("\\")
        if not part.endswith("\\") and line.count("'") % 2 == 0:
            yield line
            line = ""
        else:
            line += "\n"


def _require_known(arguments: list[str]) -> None:
    flags = [word.partition("=")[0] for word in arguments if word.startswith("--edit-")]
    shown = read(DOCS / "settings.md")
    assert all(f"| `{flag}` |" in shown for flag in flags), flags
    # vLLM's own parser has the flags of serve; without flags a command is named, not given.
    given = any(word.startswith("--") for word in arguments) and "--help" not in arguments
    if given and arguments[0] != "serve":
        _parser().parse_args(arguments)
