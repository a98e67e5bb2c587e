"""A service that leads its own store, in this process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from vllm_edit.domain.method import Method
from vllm_edit.ledger import Ledger
from vllm_edit.service.service import EditService
from vllm_edit.service.validation import EditValidator
from vllm_edit.settings import Settings


@asynccontextmanager
async def leading(path: Path, *methods: Method, **options: Any) -> AsyncIterator[EditService]:
    """The service of these methods over the log at ``path``; ``options`` are others of its own."""
    names = frozenset(name for method in methods for name in method.names)
    ledger = Ledger(path)
    assert ledger.try_to_lead("")
    service = EditService(ledger, methods, EditValidator(Settings(), names, ()), **options)
    try:
        await service.start()
        await service.lead()
        yield service
    finally:
        await service.stop()
