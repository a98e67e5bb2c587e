"""A server as the target of an evaluation: a running one, or one started for each method."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from retriever import Retriever
from retriever.ike.editor import guess_tokens
from vllm_edit import factworld
from vllm_edit.evaluation.ablation import Ablation
from vllm_edit.evaluation.in_front import NOTHING
from vllm_edit.evaluation.plan import ABLATIONS
from vllm_edit.evaluation.question import MAX_TOKENS
from vllm_edit.evaluation.served_model import ServedModel
from vllm_edit.evaluation.server_client import ServerClient
from vllm_edit.evaluation.server_edits import ServerEditApplier, require_clean, served_model
from vllm_edit.evaluation.target import EditableModel
from vllm_edit.memory.build import make_retriever
from vllm_edit.processes.server import ServerProcess
from vllm_edit.settings import Settings

_FLAGS = ("--edit-max-rate=0", "--edit-max-batch=100000", f"--edit-max-body-bytes={1 << 28}")
"""Raised limits: this client edits as fast as possible."""


@dataclass(frozen=True)
class Host:
    """The address of a server, and its process if this evaluation has started it."""

    url: str
    pid: int | None


@dataclass(frozen=True)
class ServedTarget:
    """The server at `url`; without one, a new server of `model` with `flags` and an empty store.

    Without a model, the server serves the bundled one.
    """

    admin_key: str
    url: str | None
    model: str | None = None
    flags: tuple[str, ...] = ()
    max_tokens: int = MAX_TOKENS
    at_once: int = 1

    @property
    def name(self) -> str:
        """The URL, or the model and the flags."""
        return self.url or " ".join((self.model or "factworld", *self.flags))

    @contextmanager
    def open(self, method: str) -> Iterator[EditableModel]:
        """The served model. Raises EditError if the server's default traffic sees edits."""
        with self._host() as host, ServerClient(host.url, self.admin_key) as connection:
            require_clean(connection)
            name, applier, in_front = served_model(connection), None, NOTHING
            if method in ABLATIONS:
                applier = Ablation(method, _retriever(self.model))
                in_front = applier.in_front
            model = ServedModel(connection, name, self.max_tokens, self.at_once, in_front)
            yield EditableModel(model, applier or ServerEditApplier(connection, method), host.pid)

    @contextmanager
    def _host(self) -> Iterator[Host]:
        """A server for one method; raises Unavailable if it does not start."""
        if self.url is not None:
            yield Host(self.url.rstrip("/"), None)
            return
        with tempfile.TemporaryDirectory(prefix="vllm-edit-evaluate-") as folder:
            flags = [f"--edit-store={folder}/store", *_FLAGS, *self.flags]
            # Without a name the server adds the flags of the bundled model.
            model = [self.model] if self.model else []
            server = ServerProcess([*model, *flags], Path(folder) / "server.log")
            try:
                # Inside `try`, so that a server that is still starting is stopped too.
                server.start()
                yield Host(server.url, server.pid)
            finally:
                server.stop()


def _retriever(model: str | None) -> Retriever:
    """Finds and shows facts as a server with the settings of this environment does."""
    settings = Settings.from_environment(os.environ)
    checkpoint = model or str(factworld.checkpoint())
    return make_retriever(settings, checkpoint, 2 * settings.max_added_tokens, guess_tokens)
