"""What the figures say of a service at work."""

from pathlib import Path

from prometheus_client import REGISTRY

from tests.leading import leading
from tests.service.steered import Steered, request
from vllm_edit.domain.edit import Status


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"vllm_edit_{name}", labels)


def statuses() -> dict[str, float | None]:
    found = {status.value: value("edits", status=status.value) for status in Status}
    return {status: count for status, count in found.items() if count}


async def test_figures_follow_the_edits(tmp_path: Path) -> None:
    method = Steered()
    async with leading(tmp_path / "ledger", method) as service:
        assert statuses() == {}
        method.may_compute.clear()
        edits = await service.submit([request("a"), request("b")], wait=False)
        assert value("queue") == 2
        await method.computing.wait()
        assert statuses() == {"computing": 2}
        assert value("revision_recorded") == service.revision
        method.may_compute.set()
        await service.submit([request("c")], wait=True)
        assert value("queue") == 0
        assert statuses() == {"active": 3}
        assert value("revision_served") == service.served_revision
        await service.roll_back(edits[0].id)
    async with leading(tmp_path / "ledger", Steered()) as service:
        assert statuses() == {"active": 2, "rolled_back": 1}
        assert value("revision_recorded") == value("revision_served") == service.revision
