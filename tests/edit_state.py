"""A server's state around a service that has no engine."""

from types import SimpleNamespace
from typing import Any

from vllm_edit.engine.grace_period import GracePeriod
from vllm_edit.request.edit_state import EditState
from vllm_edit.security.access import Access
from vllm_edit.security.hashed_key import HashedKey
from vllm_edit.security.rate_limit import RateLimiter
from vllm_edit.security.tenants import Tenants
from vllm_edit.security.users import Users
from vllm_edit.security.visibility import Views
from vllm_edit.service.service import EditService
from vllm_edit.settings import Settings

OPEN = Access(HashedKey(), local=True)
"""No admin key, and only this machine reaches the server."""


def edit_state(
    service: EditService, access: Access = OPEN, rate: float = 0.0, **parts: Any
) -> EditState:
    """As much of the state as routes need; ``parts`` are further fields."""
    without_engine: dict[str, Any] = {
        "settings": Settings(),
        "access": access,
        "tenants": Tenants({}),
        "users": Users(),
        "limiter": RateLimiter(rate),
        "service": service,
        "member": service,
        "memory": None,
        "router": None,
        "names": None,
        "views": Views(service.edit_set),
        "grace": GracePeriod(),
        "served": SimpleNamespace(stopped=None),
    }
    return EditState(**without_engine | parts)


def served_models() -> Any:
    """In the place of vLLM's own, with one model, m."""
    return SimpleNamespace(
        base_model_paths=[SimpleNamespace(name="m", model_path="m")],
        lora_requests={},
        registry=SimpleNamespace(),
    )
