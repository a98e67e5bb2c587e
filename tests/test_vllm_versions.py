"""Every version of vLLM that setup.py allows has the names that this project uses."""

import os
import re
import subprocess
import sys
import zipfile
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from vllm_edit.vllm_interface import benchmarking, devices, supported
from vllm_edit.vllm_interface.version import SUPPORTED, Release

ALL = supported.symbols((*supported.SERVING, benchmarking, devices))


def test_the_gpu_extra_allows_the_supported_versions_and_no_other() -> None:
    extras = [Requirement(line) for line in requires("vllm-edit") or ()]
    (vllm,) = [
        r for r in extras if r.name == "vllm" and r.marker and r.marker.evaluate({"extra": "gpu"})
    ]
    major, newest = max(SUPPORTED)
    allowed = [
        (major, minor) for minor in range(newest + 3) if f"{major}.{minor}.0" in vllm.specifier
    ]
    assert allowed == sorted(SUPPORTED)


@pytest.mark.slow
@pytest.mark.parametrize("release", SUPPORTED, ids=lambda release: ".".join(map(str, release)))
def test_the_wheel_has_every_name(release: Release, tmp_path: Path) -> None:
    wheel = download(f"vllm=={release[0]}.{release[1]}.*", tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        paths = set(archive.namelist())

        def read(path: str) -> str | None:
            return archive.read(path).decode() if path in paths else None

        assert supported.missing(read, release, ALL) == []
    # A third of a gigabyte, which pip has in its cache.
    wheel.unlink()


def download(requirement: str, folder: Path) -> Path:
    """The newest wheel for this; the test is skipped where the registry cannot be reached."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    done = subprocess.run(
        [*command, "--dest", str(folder), requirement],
        env=os.environ | {"PIP_RETRIES": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode and re.search("connection broken|Max retries", done.stdout + done.stderr):
        pytest.skip(f"the package registry cannot be reached, so {requirement} cannot be read")
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel
