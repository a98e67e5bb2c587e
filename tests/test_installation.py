"""pip can resolve every installation that the documentation names, from the registry alone."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pages import PAGES, ROOT, blocks, spans

LOCAL_SETTINGS = ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_CONSTRAINT", "PIP_NO_INDEX")
"""Settings of this machine's pip that an ordinary machine does not have."""

PROJECT = re.compile(r"""^['"]?vllm-edit(?P<extras>\[[a-z,]+\])?['"]?$""")


def named_installs() -> Iterator[str]:
    """What follows `pip install` in the shell blocks and inline code of all pages."""
    for page in PAGES:
        lines = [line for block in blocks(page) for line in block.text.splitlines()]
        for line in (*lines, *spans(page)):
            if match := re.match(r"(?:python -m )?pip install (?P<what>[^#]+)", line):
                yield match["what"].strip()


INSTALLS = sorted({what for what in named_installs() if PROJECT.match(what)})
OTHERS = {what for what in named_installs() if not PROJECT.match(what)}


def pip(python: Path, *arguments: str) -> None:
    """Run pip; the test is skipped where the registry cannot be reached."""
    environment = {k: v for k, v in os.environ.items() if k not in LOCAL_SETTINGS}
    environment |= {"PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "1"}
    done = subprocess.run(
        [str(python), "-m", "pip", *arguments],
        env=environment,
        cwd=python.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    printed = done.stdout + done.stderr
    if done.returncode and re.search("connection broken|Max retries", printed):
        pytest.skip("the package registry cannot be reached, so pip cannot resolve anything")
    assert done.returncode == 0, printed[-3000:]


def resolve(python: Path, *what: str) -> None:
    """What pip would install; it reads metadata only, so that no wheel is fetched whole."""
    options = ("--dry-run", "--ignore-installed", "--only-binary=:all:", "--use-feature=fast-deps")
    pip(python, "install", *options, *what)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the newest pip, as the documentation asks for."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip(folder / "bin/python", "install", "--upgrade", "pip")
    return folder / "bin/python"


def test_the_documentation_names_only_installs_that_are_tested_here() -> None:
    assert "'vllm-edit[gpu]'" in INSTALLS
    assert {"--upgrade pip"} >= OTHERS


@pytest.mark.slow
@pytest.mark.parametrize("what", INSTALLS)
def test_pip_resolves_it(what: str, python: Path) -> None:
    match = PROJECT.match(what)
    assert match is not None
    resolve(python, f"{ROOT}{match['extras'] or ''}")


@pytest.mark.slow
def test_the_registry_has_every_package_of_the_lock(python: Path) -> None:
    resolve(python, "--no-deps", "-r", str(ROOT / "requirements/cpu.lock"))
