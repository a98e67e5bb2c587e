"""What tests share: one real server on the bundled model, and cases from its world."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import torch

from tests.asking import TIMEOUT
from tests.cases import Case, known_cases, take_back_all
from tests.crash.servers import Zygote
from vllm_edit import factworld
from vllm_edit.processes.server import ServerProcess
from vllm_edit.security.access import ADMIN_HEADER

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


TENANTS = {"acme": "acme's own", "globex": "globex's own"}
"""The tenants of the guarded server, and their keys."""

ADMIN_KEY = "an-admin's.key_with-all_sorts"
"""Its admin key."""

USER_KEY = "what users' keys are made with"
"""Its key for users."""

ENGINE_FLAGS = (
    # Log-probabilities are compared exactly, so nothing may run beside what tests ask.
    "--edit-told-again=0",
    "--enable-prompt-tokens-details",
    "--enable-lora",
    "--max-lora-rank=64",
    "--max-loras=8",
    "--enable-scale-out",
)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Threads cost more than they give with matrices this small."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """``vllm-edit serve`` on factworld, shared by the whole session."""
    folder = tmp_path_factory.mktemp("server")
    # The slots of a calinet delta, and a few units of t-patcher.
    units = "--edit-spare-units=288"
    flags = [f"--edit-store={folder / 'store'}", units, *ENGINE_FLAGS]
    with ServerProcess(flags, folder / "server.log") as process:
        yield process


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The same with an admin key and tenants, shared by the whole session."""
    folder = tmp_path_factory.mktemp("guarded")
    tenants = folder / "tenants.yaml"
    tenants.write_text(json.dumps(TENANTS))
    users = folder / "users.key"
    users.write_text(USER_KEY)
    flags = [
        f"--edit-store={folder / 'store'}",
        f"--edit-admin-key={ADMIN_KEY}",
        f"--edit-tenant-keys={tenants}",
        f"--edit-user-key-file={users}",
        "--edit-max-rate=0",
        *ENGINE_FLAGS,
    ]
    with ServerProcess(flags, folder / "server.log") as process:
        yield process


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    """Forks servers that start in seconds."""
    with Zygote(tmp_path_factory.mktemp("zygote") / "zygote.log") as process:
        yield process


@pytest.fixture
def http(server: ServerProcess) -> Iterator[httpx.Client]:
    """A plain HTTP client of the shared server; takes back every edit the test left active."""
    with httpx.Client(base_url=server.url, timeout=TIMEOUT) as client:
        yield client
        take_back_all(client)


@pytest.fixture
def admin(guarded: ServerProcess) -> Iterator[httpx.Client]:
    """The administrator of the guarded server; takes back every edit the test left active."""
    headers = {ADMIN_HEADER: ADMIN_KEY}
    with httpx.Client(base_url=guarded.url, headers=headers, timeout=TIMEOUT) as client:
        yield client
        take_back_all(client)


@pytest.fixture
def anyone(guarded: ServerProcess) -> Iterator[httpx.Client]:
    """A client of the guarded server that has no key."""
    with httpx.Client(base_url=guarded.url, timeout=TIMEOUT) as client:
        yield client


@pytest.fixture
def chat(server: ServerProcess, http: httpx.Client) -> Iterator[openai.OpenAI]:
    """OpenAI's own client on the shared server."""
    with openai.OpenAI(
        base_url=f"{server.url}/v1", api_key="-", max_retries=0, timeout=TIMEOUT
    ) as client:
        yield client


@pytest.fixture(scope="session")
def cases(server: ServerProcess) -> list[Case]:
    """Edits of facts that the unedited model answers right."""
    return known_cases(server.url)


@pytest.fixture
def case(cases: list[Case]) -> Case:
    return cases[0]


@pytest.fixture(scope="session")
def special_token() -> str:
    """The token that ends a turn of the bundled model."""
    config = json.loads((factworld.checkpoint() / "tokenizer_config.json").read_text())
    token: str = config["eos_token"]
    return token


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "server.log"


ENGINES = {"server", "guarded", "zygote", "shared_engine"}
"""Fixtures of the session that start engines."""


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups in the same hook
def pytest_collection_modifyitems(config: pytest.Config, items: list[Any]) -> None:
    """Put tests into groups, each for one worker, and into an order.

    One worker runs all tests that share engines: each engine is started once, and none slows
    another down. It takes them first, since they take longest. A single process runs the quick
    tests first, so that a plain mistake shows before an engine has started.
    """
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))
    parallel = hasattr(config, "workerinput")
    items.sort(key=lambda item: (_group(item) == "engines") != parallel)


def _group(item: Any) -> str:
    """The tests that share engines, or those of one file."""
    shares = not ENGINES.isdisjoint(getattr(item, "fixturenames", ()))
    return "engines" if shares else item.location[0]
