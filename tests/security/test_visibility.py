"""Which sets and edits a request sees, by the keys that it sends."""

from dataclasses import replace

import pytest
from starlette.datastructures import Headers

from vllm_edit.domain.edit import Edit, EditRequest, Status
from vllm_edit.domain.edit_set import EditSet, check_name
from vllm_edit.domain.errors import (
    InvalidEditSet,
    Unauthorized,
    UnknownVariant,
    unknown_edit_set,
)
from vllm_edit.security.access import Access
from vllm_edit.security.hashed_key import HashedKey
from vllm_edit.security.tenants import Tenants
from vllm_edit.security.visibility import UNNAMED, Viewer, Views, viewer_of, viewing

ADMIN = Viewer(administrator=True)
NOBODY = Viewer()
ACME = Viewer(tenant="acme")
TENANTS = Tenants({"acme": HashedKey("acme's own"), "globex": HashedKey("globex's own")})
GUARDED, OPEN, CLOSED = (
    Access(HashedKey("the admin's"), local=True),
    Access(HashedKey(), local=True),
    Access(HashedKey(), local=False),
)
OWNED, SHARED = EditSet.new("private", owner="acme"), EditSet.new("news", owner=None)


@pytest.mark.parametrize("manages_edits", [True, False])
@pytest.mark.parametrize(
    ("headers", "viewer"),
    [
        ({}, NOBODY),
        ({"X-Edit-Admin-Key": "the admin's"}, ADMIN),
        ({"authorization": "Bearer the admin's"}, ADMIN),
        ({"X-Edit-Admin-Key": "wrong"}, NOBODY),
        ({"authorization": "Bearer everyone's"}, NOBODY),
        ({"X-Edit-Tenant-Key": "acme's own"}, ACME),
        ({"X-Edit-Tenant-Key": "acme's own", "X-Edit-Admin-Key": "the admin's"}, ACME),
    ],
)
def test_keys_name_the_viewer_on_every_route(
    headers: dict[str, str], viewer: Viewer, manages_edits: bool
) -> None:
    assert viewer_of(headers, GUARDED, TENANTS, manages_edits=manages_edits) == viewer


def test_without_an_admin_key_this_machine_manages_edits() -> None:
    assert viewer_of({}, OPEN, TENANTS, manages_edits=True) == ADMIN
    assert viewer_of({}, OPEN, TENANTS, manages_edits=False) == NOBODY
    key = {"X-Edit-Admin-Key": ""}
    assert viewer_of(key, CLOSED, TENANTS, manages_edits=True) == NOBODY


def test_an_unknown_tenant_is_refused() -> None:
    headers = {"X-Edit-Tenant-Key": "wrong", "X-Edit-Admin-Key": "the admin's"}
    with pytest.raises(Unauthorized) as raised:
        viewer_of(headers, GUARDED, TENANTS, manages_edits=False)
    assert raised.value.code == "unknown_tenant"


def test_an_owned_set_is_seen_by_its_tenant_and_the_administrator() -> None:
    viewers = {ADMIN: True, ACME: True, NOBODY: False, Viewer(tenant="globex"): False}
    for viewer, sees in viewers.items():
        assert viewer.sees(SHARED)
        assert viewer.sees(OWNED) == sees
        viewer.check_variant("news", [OWNED, SHARED], field="model")
        viewer.check_variant("base", [], field="model")
        if sees:
            viewer.check_variant("private", [OWNED, SHARED], field="model")
        else:
            with pytest.raises(UnknownVariant) as raised:
                viewer.check_variant("private", [OWNED, SHARED], field="model")
            assert raised.value.field == "model"


def test_a_proxy_s_client_is_no_administrator() -> None:
    headers = {"x-forwarded-for": "127.0.0.1"}
    assert viewer_of(headers, OPEN, TENANTS, manages_edits=True) == NOBODY
    headers["x-edit-admin-key"] = "the admin's"
    assert viewer_of(Headers(headers), GUARDED, TENANTS, manages_edits=True) == ADMIN


def test_feedback_of_a_user_is_for_who_may_speak_for_them() -> None:
    def edit(edit_set: str | None) -> Edit:
        request = EditRequest(
            "memprompt", "What?", "it", "Be brief.", edit_set=edit_set, user="ann"
        )
        return Edit("edit-1", request, Status.ACTIVE, 1, 1, 10.0, 10.0)

    for viewer, expected in (
        (ADMIN, [True, True, True]),
        (ACME, [False, False, True]),
        (NOBODY, [False, False, False]),
    ):
        sees = viewer.edit_filter([OWNED, SHARED])
        assert [sees(edit(name)) for name in (None, "news", "private")] == expected


def test_figures_name_what_everybody_sees() -> None:
    sets = {"private": OWNED, "news": SHARED}

    def find(name: str) -> EditSet:
        if name not in sets:
            raise unknown_edit_set(name)
        return sets[name]

    views = Views(find)
    with viewing(ADMIN):
        labels = [views.label(name) for name in ("base", "default", "news", "private", "gone")]
    assert labels == ["base", "default", "news", UNNAMED, UNNAMED]
    with pytest.raises(InvalidEditSet):
        check_name(UNNAMED)


def test_edits_are_seen_with_their_set() -> None:
    def edit(edit_set: str | None) -> Edit:
        request = EditRequest("ike", "The capital of Peru is", "Peru", "Cusco", edit_set=edit_set)
        return Edit("edit-1", request, Status.ACTIVE, 1, 1, 10.0, 10.0)

    later = replace(OWNED, owner=None, created_at=11.0)
    for viewer, expected in (
        (ADMIN, [True, True, True, True]),
        (ACME, [True, True, False, False]),
        (NOBODY, [True, False, False, False]),
    ):
        sees = viewer.edit_filter([OWNED])
        seen = [sees(edit(edit_set)) for edit_set in (None, "private", "deleted")]
        assert [*seen, viewer.edit_filter([later])(edit("private"))] == expected
