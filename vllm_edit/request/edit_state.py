"""What the plugin keeps on the app, at ``app.state.edit_state``."""

from dataclasses import dataclass
from typing import Protocol

from starlette.datastructures import Headers, State
from starlette.requests import Request

from vllm_edit.domain.errors import Unavailable
from vllm_edit.engine.grace_period import GracePeriod
from vllm_edit.engine.model_names import ModelNames
from vllm_edit.memory.method import MemoryMethod
from vllm_edit.memory.router import Router
from vllm_edit.replication.member import Member
from vllm_edit.security.access import Access
from vllm_edit.security.rate_limit import RateLimiter
from vllm_edit.security.tenants import Tenants
from vllm_edit.security.users import Users
from vllm_edit.security.visibility import Viewer, Views, viewer_of
from vllm_edit.service.service import EditService
from vllm_edit.settings import Settings


class Served(Protocol):
    """What the engine serves."""

    @property
    def stopped(self) -> str | None:
        """Why the engine answers nothing until the server is started again; None while it does."""
        ...


@dataclass(frozen=True)
class EditState:
    """The parts of a server that requests and routes use."""

    settings: Settings
    access: Access
    tenants: Tenants
    users: Users
    limiter: RateLimiter
    service: EditService
    member: Member
    """Makes changes, here or on the server that leads the store."""
    memory: MemoryMethod
    router: Router
    names: ModelNames
    views: Views
    grace: GracePeriod
    served: Served

    def viewer(self, headers: Headers, *, manages_edits: bool) -> Viewer:
        """See `viewer_of`."""
        return viewer_of(headers, self.access, self.tenants, manages_edits=manages_edits)

    def proven_user(self, user: str, headers: Headers, variant: str) -> str | None:
        """The user whom a request names, if it may: None if anybody could name them.

        It may with the user's key. The administrator may name every user, a tenant those of their
        own sets, and everybody any user where everybody is the administrator.

        Raises Unauthorized for a key that is wrong.
        """
        viewer = self.viewer(headers, manages_edits=not self.users)
        if viewer.administrator or self.users.are_proven(user, headers):
            return user
        return user if viewer.tenant is not None and not self.views.public(variant) else None


def find_edit_state(state: State) -> EditState | None:
    """The state of a server; None if it was started without an engine."""
    return getattr(state, "edit_state", None)


def edit_state_of(request: Request) -> EditState:
    """The state of the server that got a request.

    Raises Unavailable if it was started without an engine.
    """
    edit_state = find_edit_state(request.app.state)
    if edit_state is None:
        raise Unavailable("This server has no engine, so it cannot take edits.")
    return edit_state
