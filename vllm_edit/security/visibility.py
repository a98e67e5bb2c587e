"""Which edit sets, and which edits, a request sees: one rule for every route."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from vllm_edit.domain.edit import Edit
from vllm_edit.domain.edit_set import EditSet
from vllm_edit.domain.errors import UnknownEditSet, UnknownVariant
from vllm_edit.domain.variant import RESERVED
from vllm_edit.security.access import Access, sent_admin_key
from vllm_edit.security.tenants import Tenants, sent_tenant_key


@dataclass(frozen=True)
class Viewer:
    """Who sends a request: the administrator, a tenant, or a client without a key."""

    administrator: bool = False
    tenant: str | None = None

    def sees(self, edit_set: EditSet) -> bool:
        """The administrator sees every set; others see their own and those without an owner."""
        return self.administrator or edit_set.owner in (None, self.tenant)

    def edit_filter(self, edit_sets: Iterable[EditSet]) -> Callable[[Edit], bool]:
        """Which edits it sees: those of no set, and those of the sets that it sees.

        Only the administrator sees edits of a set that was deleted. The feedback of one user is
        seen by the administrator and by the tenant to whom its set belongs.
        """
        visible = {edit_set.name: edit_set for edit_set in edit_sets if self.sees(edit_set)}

        def sees_edit(edit: Edit) -> bool:
            if self.administrator:
                return True
            edit_set = visible.get(edit.request.edit_set or "")
            if edit.request.user is not None and (edit_set is None or edit_set.owner is None):
                return False
            if edit.request.edit_set is None:
                return True
            # An earlier set, deleted since, may have had the same name.
            return edit_set is not None and edit_set.created_at <= edit.created_at

        return sees_edit

    def check_variant(self, variant: str, edit_sets: Iterable[EditSet], field: str) -> None:
        """Raise UnknownVariant, at fault in ``field``, for a variant that it does not see."""
        visible = {edit_set.name for edit_set in edit_sets if self.sees(edit_set)}
        if variant not in visible | RESERVED:
            raise UnknownVariant(
                f"There is no variant {variant!r} of the model; GET /v1/models lists them.",
                field=field,
            )


OUTSIDER = Viewer()
"""A client without a key."""

ADMINISTRATOR = Viewer(administrator=True)

_viewer: ContextVar[Viewer] = ContextVar("viewer", default=OUTSIDER)


@contextmanager
def viewing(viewer: Viewer) -> Iterator[None]:
    """Within this context, and in tasks that it starts, `Views` are those of the viewer."""
    token = _viewer.set(viewer)
    try:
        yield
    finally:
        _viewer.reset(token)


UNNAMED = "_other"
"""In figures, the variants that not everybody sees and those that have ended; no set has the
name."""


class Views:
    """Which variants are seen, where vLLM looks model names up.

    ``find`` returns an edit set by its name, or raises UnknownEditSet. What is not `viewing` sees
    as little as a client without a key.
    """

    def __init__(self, find: Callable[[str], EditSet]) -> None:
        self._find = find

    def seen(self, variant: str) -> bool:
        """Whether whoever sent the running request sees the variant."""
        return self._sees(_viewer.get(), variant)

    def public(self, variant: str) -> bool:
        """Whether everybody sees the variant."""
        return self._sees(OUTSIDER, variant)

    def label(self, variant: str) -> str:
        """What figures that everybody can read call the variant."""
        return variant if self.public(variant) else UNNAMED

    def _sees(self, viewer: Viewer, variant: str) -> bool:
        if variant in RESERVED or viewer.administrator:
            return True
        try:
            return viewer.sees(self._find(variant))
        except UnknownEditSet:
            # Its name is made or removed at another moment than the set.
            return False


def viewer_of(
    headers: Mapping[str, str], access: Access, tenants: Tenants, *, manages_edits: bool
) -> Viewer:
    """The viewer that a request's keys name; a tenant's key counts before the admin key.

    A request without a key counts as the administrator's where it ``manages_edits`` and the
    server is open: everyone who reaches such a server may change edits. A request to the model
    does not, so that a tenant's set is never served to a client that sent no key.

    Raises Unauthorized for a tenant's key that is unknown.
    """
    tenant_key = sent_tenant_key(headers)
    if tenant_key is not None:
        return Viewer(tenant=tenants.of(tenant_key))
    has_key = access.sent(sent_admin_key(headers)) is not None
    return Viewer(administrator=has_key or (manages_edits and access.open_to(headers)))
