"""Starts on a store whose edits do not all fit: the server serves, and says which it leaves out."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.cases import Case, answer, complete, post, roll_back
from tests.crash.servers import ADAPTERS, ForkedServer, Zygote
from vllm_edit import factworld
from vllm_edit.cli.serve import FACTWORLD_FLAGS
from vllm_edit.domain.edit import EditRequest, Proposal, Status, Step
from vllm_edit.ledger import LEDGER_FILE, Ledger

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

WEIGHTS = "model.safetensors"


@contextmanager
def serving(zygote: Zygote, store: Path, model: Path | None = None) -> Iterator[ForkedServer]:
    named = [str(model), *FACTWORLD_FLAGS] if model else []
    log = store.with_name("server.log")
    with ForkedServer(zygote, store, log, flags=[*named, *ADAPTERS]) as server:
        assert server.answers(), log.read_text()[-3000:]
        yield server


def changed_base(folder: Path) -> Path:
    """The bundled model with a weight that differs a little."""
    shutil.copytree(factworld.checkpoint(), folder)
    tensors = load_file(folder / WEIGHTS)
    name = next(name for name in sorted(tensors) if "norm" in name)
    tensors[name] = tensors[name] * 1.001
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def without_safetensors(folder: Path) -> Path:
    """The bundled model in PyTorch's own format, which vLLM reads and edits of weights do not."""
    shutil.copytree(factworld.checkpoint(), folder)
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()
    return folder


def test_edits_wait_for_their_base(
    zygote: Zygote, store: Path, tmp_path: Path, facts: list[Case]
) -> None:
    with serving(zygote, store) as server, server.client() as client:
        weights, memory = post(client, facts[0].edit("rome")), post(client, facts[1].edit("ike"))
    bases = (changed_base(tmp_path / "changed"), without_safetensors(tmp_path / "bin"))
    for base, code, said in zip(bases, ("wrong_base", "unavailable"), (202, 503), strict=True):
        with serving(zygote, store, base) as server, server.client() as client:
            waiting = client.get(f"/v1/edits/{weights['id']}").json()
            assert (waiting["status"], waiting["error"]["code"]) == ("waiting", code)
            assert client.get(f"/v1/edits/{memory['id']}").json()["status"] == "active"
            assert complete(client, facts[1].prompt).headers["x-edit-ids"] == memory["id"]
            assert complete(client, facts[0].prompt).headers["x-edit-method"] == ""
            reply = client.post("/v1/edits", json=facts[2].edit("rome"))
            assert reply.status_code == said, reply.text
            if said == 202:
                roll_back(client, reply.json())
            roll_back(client, post(client, facts[3].edit("ike", keep=True)))
    with serving(zygote, store) as server, server.client() as client:
        assert client.get(f"/v1/edits/{weights['id']}").json()["status"] == "active"
        assert answer(client, facts[0].prompt) == facts[0].target_new
        roll_back(client, weights)


def test_a_memory_edit_that_cannot_be_kept_fails_and_the_server_starts(
    zygote: Zygote, store: Path, facts: list[Case]
) -> None:
    store.mkdir()
    requests = [
        EditRequest("ike", facts[0].prompt, facts[0].subject, facts[0].target_new),
        EditRequest("ike", "Nothing of the kind is", "\u00b4", "Y"),
        EditRequest(
            "ike", "The thing x\u00b4 is famous for its", "x\u00b4", "university", keep=True
        ),
    ]
    with Ledger(store / LEDGER_FILE) as ledger:
        ledger.propose([Proposal(f"edit-{at}", request) for at, request in enumerate(requests)])
        ledger.record([Step("edit-0", Status.ACTIVE), Step("edit-1", Status.ACTIVE)])
        ledger.record([Step("edit-2", Status.APPLYING)])
    for _ in range(2):
        with serving(zygote, store) as server, server.client() as client:
            edits = client.get("/v1/edits").json()["data"]
            assert [edit["status"] for edit in edits] == ["active", "failed", "active"]
            assert edits[1]["error"]["code"] == "subject_not_in_prompt"
            assert complete(client, facts[0].prompt).headers["x-edit-ids"] == "edit-0"
            assert complete(client, "\u00b4").headers["x-edit-ids"] == ""
