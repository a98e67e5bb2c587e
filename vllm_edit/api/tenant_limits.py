"""How many edits the sets of one tenant may hold."""

from collections import Counter
from collections.abc import Sequence

from vllm_edit.domain.edit import EditRequest
from vllm_edit.domain.errors import ConflictingState
from vllm_edit.request.edit_state import EditState


def require_room(state: EditState, requests: Sequence[EditRequest]) -> None:
    """Raise ConflictingState if these edits are too many for a tenant in whose sets they go.

    Lists that are posted at the same time do not see each other.
    """
    for owner, coming in Counter(_owners(state, requests)).items():
        most = state.tenants.max_edits(owner, state.settings.max_tenant_edits)
        held = state.service.edits_of(owner)
        if most and held + coming > most:
            raise ConflictingState(
                f"The sets of {owner!r} hold {held} edits, {coming} more are asked for, and at "
                f"most {most} are allowed: take some back, or raise max_edits in the file of "
                "--edit-tenant-keys, or --edit-max-tenant-edits.",
                code="too_many_edits",
            )


def _owners(state: EditState, requests: Sequence[EditRequest]) -> list[str]:
    """For each edit of a tenant's set, the tenant; unknown sets are refused later."""
    sets = {edit_set.name: edit_set.owner for edit_set in state.service.edit_sets()}
    owners = (sets.get(request.edit_set or "") for request in requests)
    return [owner for owner in owners if owner is not None]
