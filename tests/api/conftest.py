"""A server of its own for tests that look at weights, files and what is asked again."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.cases import Case, all_cases, known_cases, take_back_all
from tests.crash.servers import ForkedServer, Zygote


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of the forked server."""
    return tmp_path_factory.mktemp("forked") / "store"


@pytest.fixture(scope="session")
def forked(zygote: Zygote, store: Path) -> Iterator[ForkedServer]:
    """A server that asks again, as it does by default."""
    with ForkedServer(zygote, store, store.with_suffix(".log")) as server:
        assert server.answers()
        yield server


@pytest.fixture
def own(forked: ForkedServer) -> Iterator[httpx.Client]:
    """A client of the forked server, which has no edits before and after a test."""
    with forked.client() as client:
        yield client
        take_back_all(client)


@pytest.fixture(scope="session")
def facts(forked: ForkedServer) -> list[Case]:
    """Facts that could have been others."""
    return [case for case in known_cases(forked.url, count=12) if other_targets(case)]


def other_targets(case: Case) -> list[str]:
    """Other targets of the same kind."""
    alike = [c for c in all_cases() if _relation(c) == _relation(case)]
    targets = {target for c in alike for target in (c.target_new, c.ground_truth)}
    return sorted(targets - {case.target_new, case.ground_truth})


def _relation(case: Case) -> str:
    return case.prompt.replace(case.subject, "")
