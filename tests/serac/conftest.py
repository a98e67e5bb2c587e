"""A small random model without an end token, servers on real sockets, and their replies."""

import json
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import uvicorn
from starlette.types import ASGIApp, Message
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from retriever import Fact
from vllm_edit import factworld
from vllm_edit.factworld.protocol import fill
from vllm_edit.factworld.wordings import BY_NAME

POSITIONS = 4096


class Sent:
    """The reply of an ASGI application."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def __call__(self, message: Message) -> None:
        self.messages.append(message)

    @property
    def status(self) -> int:
        (start,) = [m for m in self.messages if m["type"] == "http.response.start"]
        return int(start["status"])

    @property
    def body(self) -> bytes:
        assert [m.get("more_body", False) for m in self.messages[1:]][-1] is False
        return b"".join(m["body"] for m in self.messages[1:])

    @property
    def json(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.body)
        return answer

    @property
    def events(self) -> list[dict[str, Any]]:
        *items, done, end = self.body.decode().split("\n\n")
        assert (done, end) == ("data: [DONE]", "")
        return [json.loads(item.removeprefix("data: ")) for item in items]

    @property
    def text(self) -> str:
        """The text of the first choice, streamed or not."""
        if self.messages[0]["headers"][0][1].startswith(b"text/event-stream"):
            choices = [c for e in self.events for c in e.get("choices", ()) if c["index"] == 0]
            return "".join(
                c.get("text") or c.get("delta", {}).get("content") or "" for c in choices
            )
        choice = self.json["choices"][0]
        return str(choice["text"] if "text" in choice else choice["message"]["content"])


@contextmanager
def serving(app: ASGIApp) -> Iterator[Path]:
    """The path of a Unix socket on which uvicorn serves the application, on another thread."""
    with tempfile.TemporaryDirectory(prefix="serac-") as folder:
        path = Path(folder) / "http.sock"
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(str(path))
        listening.listen()
        with _running(app, listening):
            yield path


@contextmanager
def serving_url(app: ASGIApp) -> Iterator[str]:
    """The URL at which uvicorn serves the application, on another thread."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    with _running(app, listening):
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"


@contextmanager
def _running(app: ASGIApp, listening: socket.socket) -> Iterator[None]:
    server = uvicorn.Server(
        uvicorn.Config(
            app, log_config=None, lifespan="off", loop="asyncio", ws="none",
            timeout_graceful_shutdown=1,
        )
    )  # fmt: skip
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


def client_of(path: Path) -> httpx.AsyncClient:
    """A client of a server on a Unix socket."""
    transport = httpx.AsyncHTTPTransport(uds=str(path))
    return httpx.AsyncClient(transport=transport, base_url="http://serac/v1", timeout=60.0)


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "this took too long"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model that generates up to its context length; it has no chat template."""
    folder = tmp_path_factory.mktemp("endless")
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(["Anna Berg was born in Oslo."], trainer)
    PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="<s>").save_pretrained(
        folder
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=raw.get_vocab_size(),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=POSITIONS,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def fact() -> Fact:
    """A counterfactual of the bundled world."""
    world = factworld.build_world()
    world_fact = next(fact for fact in world.facts if fact.relation == "birthplace")
    target = next(name for name in world.entities["city"] if name != world_fact.object)
    prompt = fill(BY_NAME["birthplace"].statement, world_fact.subject)
    return Fact("e1", world_fact.subject, prompt, target)
