"""What is asked about every request."""

from dataclasses import dataclass

from vllm_edit.engine.names import ModelNames
from vllm_edit.grace import Grace
from vllm_edit.memory import MemoryMethod
from vllm_edit.request.router import Router
from vllm_edit.service import EditService
from vllm_edit.tenants import Tenants


@dataclass(frozen=True)
class Front:
    """The parts of a server that requests meet."""

    service: EditService
    memory: MemoryMethod
    names: ModelNames
    tenants: Tenants
    grace: Grace
    router: Router
