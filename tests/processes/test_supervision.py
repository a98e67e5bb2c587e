"""Tasks that go on after an error, which is not lost."""

import asyncio

import pytest
from prometheus_client import REGISTRY

from vllm_edit.domain.errors import Unavailable
from vllm_edit.processes import supervision
from vllm_edit.processes.supervision import in_background, supervised


def faults(task: str) -> float:
    return REGISTRY.get_sample_value("vllm_edit_background_faults_total", {"task": task}) or 0.0


@pytest.fixture(autouse=True)
def restarted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "RESTART_SECONDS", 0.0)


async def test_a_task_goes_on_after_every_error(caplog: pytest.LogCaptureFixture) -> None:
    errors = [OSError("no memory"), ZeroDivisionError(), Unavailable("not now")]
    before = faults("a test")

    async def work() -> None:
        if errors:
            raise errors.pop()

    await supervised("a test", work)
    assert faults("a test") == before + 3
    assert "no memory" in caplog.text
    assert "not now" in caplog.text


async def test_a_task_can_be_cancelled() -> None:
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()
        await asyncio.Event().wait()

    task = supervised("a test", work)
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_is_done_once_is_not_done_again() -> None:
    before = faults("a test")

    async def work() -> None:
        raise OSError

    await in_background("a test", work)
    assert faults("a test") == before + 1
