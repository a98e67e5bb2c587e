"""What the tests of this folder share: forked servers, and one that is never killed."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cases import Case, known_cases
from tests.crash.points import Failure
from tests.crash.replay import Replay
from tests.crash.servers import ForkedServer, Zygote

Fork = Callable[..., ForkedServer]


@pytest.fixture(scope="package")
def replay(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replay]:
    """A comparison with an engine that never crashed, over facts that the base model knows."""
    folder = tmp_path_factory.mktemp("reference")
    environment = {"VLLM_EDIT_EDITOR": "lazy"}
    with ForkedServer(
        zygote, folder / "store", folder / "server.log", environment=environment
    ) as reference:
        assert reference.answers()
        yield Replay(reference, known_cases(reference.url, count=12))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def fork(zygote: Zygote, store: Path, log: Path) -> Iterator[Fork]:
    """A function that starts servers on the test's store; all are killed after it."""
    with ExitStack() as servers:

        def start(failure: Failure | None = None) -> ForkedServer:
            return servers.enter_context(ForkedServer(zygote, store, log, failure))

        yield start


@pytest.fixture
def facts(replay: Replay) -> list[Case]:
    """Facts that the base model knows."""
    return list(replay.facts)
