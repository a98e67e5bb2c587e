"""The middleware in front of routes in the place of vLLM's: what it makes of a request's answer."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from prometheus_client import REGISTRY

from retriever import HopFormat, Mello, Retriever, RetrieverSettings, SentenceEncoder
from tests.edit_state import OPEN, edit_state, served_models
from tests.leading import leading
from tests.service.steered import Steered
from vllm_edit.domain.edit import Edit, EditRequest, Status
from vllm_edit.domain.method import MethodChange
from vllm_edit.engine.model_names import ModelNames
from vllm_edit.memory.method import MemoryMethod
from vllm_edit.memory.router import Router, RoutingBudget
from vllm_edit.plugin import EditPlugin
from vllm_edit.security.visibility import Views

LONGEST = 200
"""Characters of a prompt that the routes take."""

PROMPT = "The capital of France is"
PATH = "/v1/completions"


class Classifier:
    """Everything is in scope, unless it is broken."""

    broken = False

    def scores(self, readings: Any) -> list[float]:
        if self.broken:
            raise IndexError("string index out of range")
        return [1.0] * len(readings)


@pytest.fixture
def classifier() -> Classifier:
    return Classifier()


@pytest.fixture
async def http(tmp_path: Path, classifier: Classifier) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server with one edit about France, which answers with the prompt."""
    models = served_models()
    app = FastAPI()
    EditPlugin().attach_router(app)

    @app.post(PATH)
    async def echo(body: dict[str, Any]) -> Response:
        if len(body["prompt"]) > LONGEST:
            return JSONResponse({"error": len(body["prompt"])}, 400)
        return JSONResponse({"prompt": body["prompt"]})

    settings = RetrieverSettings(threshold=0.0)
    retriever = Retriever(SentenceEncoder(), settings=settings, classifier=classifier)
    memory = MemoryMethod(retriever)
    edit = Edit(
        "edit-1", EditRequest("ike", PROMPT, "France", "Lyon"), Status.ACTIVE, 1, 1, 0.0, 0.0
    )
    await memory.apply(MethodChange([edit]), None, 1)
    unasked: Any = None
    router = Router(memory, Mello(HopFormat(), 4), unasked, RoutingBudget())
    async with leading(tmp_path / "ledger.sqlite3", Steered()) as service:
        app.state.edit_state = edit_state(
            service,
            OPEN,
            names=ModelNames(models, Views(service.edit_set)),
            memory=memory,
            router=router,
        )
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            yield client


def counted(name: str, **labels: str) -> float:
    labels = {"variant": "default", **labels}
    return REGISTRY.get_sample_value(f"vllm_edit_{name}_total", labels) or 0.0


async def test_what_is_refused_with_its_edits_is_answered_without(http: httpx.AsyncClient) -> None:
    hits, refused = counted("hits", method="ike"), counted("passes", reason="refused")
    reply = await http.post(PATH, json={"prompt": PROMPT})
    assert reply.json()["prompt"].endswith(f"Lyon.\nPrompt: {PROMPT}")
    assert reply.headers["x-edit-ids"] == "edit-1"
    assert (counted("hits", method="ike"), counted("passes", reason="refused")) == (
        hits + 1,
        refused,
    )
    long = f"{'a ' * 80}. {PROMPT}"
    reply = await http.post(PATH, json={"prompt": long, "edit_variant": "default"})
    assert (reply.status_code, reply.json()) == (200, {"prompt": long})
    assert (reply.headers["x-edit-ids"], reply.headers["x-edit-method"]) == ("", "")
    assert counted("hits", method="ike") == hits + 1
    assert counted("passes", reason="refused") == refused + 1
    # A client's own mistake stays one, with the figures of what it sent.
    reply = await http.post(PATH, json={"prompt": f"{'a ' * 200}. {PROMPT}"})
    assert (reply.status_code, reply.json()) == (400, {"error": 400 + 2 + len(PROMPT)})
    assert counted("requests", status="400") == 1


async def test_what_cannot_be_routed_is_answered_without_edits(
    http: httpx.AsyncClient, classifier: Classifier
) -> None:
    classifier.broken = True
    reply = await http.post(PATH, json={"prompt": PROMPT})
    assert (reply.status_code, reply.json()) == (200, {"prompt": PROMPT})
    assert reply.headers["x-edit-ids"] == ""
    for content in ({"text": PROMPT}, {"messages": [{"role": "user", "content": PROMPT}]}):
        reply = await http.post("/v1/edits/route", json=content)
        assert (reply.status_code, reply.json()["reason"]) == (200, "routing_failed")
        assert reply.json()["edits"] == []
