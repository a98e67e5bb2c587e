"""Names of vLLM are found in its source, and a version that lacks one is refused."""

import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from typing import Any, Protocol

import pytest

from vllm_edit.domain.errors import Unavailable
from vllm_edit.vllm_interface import launch, supported, version
from vllm_edit.vllm_interface.source import Source
from vllm_edit.vllm_interface.symbol import Symbol

OLD, NEW = (0, 32), (0, 33)
FILES = {
    "vllm/core/__init__.py": "from .client import Client\nfrom vllm.base import run as start",
    "vllm/core/client.py": """
from vllm.base import Base

class Client(Base):
    limit: int = 1

    async def pause(self, mode, *, clear=False): ...
    def call(self, name, **options): ...
""",
    "vllm/base.py": """
class Base:
    def __init__(self):
        self.config = None

if True:
    def run(args): ...
else:
    def run(args): ...
""",
}


class Used(Protocol):
    limit: int
    config: Any

    async def pause(self, mode: str, clear: bool) -> None: ...

    def call(self, name: str, anything: int) -> None: ...


class UsedToo(Protocol):
    gone: int

    def pause(self, how: str) -> None: ...

    def stop(self) -> None: ...


class Run(Protocol):
    def __call__(self, args: object) -> None: ...


class RunFast(Protocol):
    def __call__(self, fast: bool) -> None: ...


def missing(symbol: Symbol, release: tuple[int, int] = OLD) -> list[str]:
    return list(Source(FILES.get).missing(symbol, release))


def test_names_are_followed_through_imports_and_base_classes() -> None:
    assert missing(Symbol("vllm.core", "Client", Used)) == []
    assert missing(Symbol("vllm.core", "start", Run)) == []
    assert missing(Symbol("vllm.base")) == []


def test_missing_modules_names_members_and_parameters_are_named() -> None:
    assert missing(Symbol("vllm.gone", "Client")) == ["vllm.gone.Client"]
    assert missing(Symbol("vllm.core", "Server")) == ["vllm.core.Server"]
    assert missing(Symbol("vllm.core", "start", RunFast)) == ["vllm.core.start(fast=)"]
    assert missing(Symbol("vllm.core", "Client", UsedToo)) == [
        "vllm.core.Client.gone",
        "vllm.core.Client.pause(how=)",
        "vllm.core.Client.stop",
    ]


def test_a_name_that_moved_is_looked_for_where_the_version_has_it() -> None:
    symbol = Symbol("vllm.base", "Client", moved={NEW: "vllm.core"})
    assert missing(symbol, OLD) == ["vllm.base.Client"]
    assert missing(symbol, NEW) == []
    assert missing(symbol, (0, 35)) == []


def test_the_installed_version_has_all_names() -> None:
    supported.require_supported.cache_clear()
    supported.require_supported()


def test_a_version_that_lacks_names_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supported, "_read_installed", lambda _: None)
    monkeypatch.setattr(supported, "installed", lambda: "0.31.2")
    monkeypatch.setattr(supported, "SERVING", (launch,))
    supported.require_supported.cache_clear()
    with pytest.raises(Unavailable) as refused:
        supported.require_supported()
    assert refused.value.code == "unsupported_vllm"
    assert refused.value.message.startswith(
        "vLLM 0.31.2 cannot be used: it has no vllm.entrypoints.launchers.api_server.entry, "
    )
    assert refused.value.message.endswith("; install vLLM 0.32 or 0.33.")


def test_an_untested_version_with_all_names_is_used_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supported, "installed", lambda: "0.34.0rc1")
    monkeypatch.setattr(supported, "SERVING", ())
    supported.require_supported.cache_clear()
    supported.require_supported()
    assert caplog.messages == ["vllm-edit was not tested with vLLM 0.34.0rc1."]


def test_a_name_that_is_gone_at_run_time_is_refused_too() -> None:
    with pytest.raises(Unavailable, match=r"it has no json\.there_is_no_such_name;"):
        Symbol("json", "there_is_no_such_name").load()


def test_without_vllm_the_error_says_where_to_read_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_: str) -> str:
        raise PackageNotFoundError

    monkeypatch.setattr(version, "distribution_version", absent)
    version.installed.cache_clear()
    try:
        with pytest.raises(Unavailable, match=r"vLLM is not installed.*docs/installation\.md"):
            version.installed()
    finally:
        version.installed.cache_clear()


def test_vllm_is_imported_only_when_a_name_is_loaded() -> None:
    program = (
        "import sys; from vllm_edit.vllm_interface import supported; "
        "supported.require_supported(); sys.exit('vllm' in sys.modules or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
