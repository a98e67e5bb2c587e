"""What of the edits a client may read: not what is another tenant's."""

from collections.abc import Callable

from starlette.requests import Request

from vllm_edit.domain.edit import Edit
from vllm_edit.domain.edit_set import EditSet
from vllm_edit.security.access import ADMIN_HEADER, Access
from vllm_edit.security.tenants import TENANT_HEADER, Tenants, is_visible
from vllm_edit.service.service import EditService


def sees(request: Request) -> Callable[[EditSet], bool]:
    """Which sets the client sees: an administrator all, others those of no tenant and their own.

    Raises Unauthorized for a tenant's key that nobody has.
    """
    access: Access = request.app.state.edit_access
    tenants: Tenants = request.app.state.edit_front.tenants
    admin, key = _bytes(request, ADMIN_HEADER), _bytes(request, TENANT_HEADER)
    if key is None and (access.open or (admin is not None and access.key.matches(admin))):
        return lambda edit_set: True
    tenant = tenants.of(key)
    return lambda edit_set: is_visible(edit_set, tenant)


def visible_edits(request: Request, service: EditService) -> Callable[[Edit], bool]:
    """Which edits the client sees: those of no set, and of sets that it sees.

    Those of a set that is no more are seen by whoever sees every set.
    """
    see = sees(request)
    sets = {edit_set.name: edit_set for edit_set in service.edit_sets()}
    everything = see(EditSet.new("", owner="\0"))

    def visible(edit: Edit) -> bool:
        if edit.request.edit_set is None or everything:
            return True
        edit_set = sets.get(edit.request.edit_set)
        # There may have been another set of that name before.
        return edit_set is not None and edit_set.created_at <= edit.created_at and see(edit_set)

    return visible


def _bytes(request: Request, header: str) -> bytes | None:
    # Header values are bytes, which Starlette shows as Latin-1.
    value = request.headers.get(header)
    return None if value is None else value.encode("latin-1")
