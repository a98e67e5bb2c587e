"""What is asked about every request."""

from dataclasses import dataclass

from vllm_edit.engine.grace_period import GracePeriod
from vllm_edit.engine.model_names import ModelNames
from vllm_edit.memory.method import MemoryMethod
from vllm_edit.memory.router import Router
from vllm_edit.security.tenants import Tenants
from vllm_edit.service.service import EditService


@dataclass(frozen=True)
class EditState:
    """The parts of a server that requests meet."""

    service: EditService
    memory: MemoryMethod
    names: ModelNames
    tenants: Tenants
    grace: GracePeriod
    router: Router
