"""Whose user a request may name, by the keys that it sends and those that the server has."""

from types import SimpleNamespace
from typing import Any

import pytest
from starlette.datastructures import Headers

from tests.edit_state import OPEN, edit_state
from vllm_edit.domain.edit_set import EditSet
from vllm_edit.security.access import ADMIN_HEADER, Access
from vllm_edit.security.hashed_key import HashedKey
from vllm_edit.security.tenants import TENANT_HEADER, Tenants
from vllm_edit.security.users import USER_HEADER, Users

GUARDED = Access(HashedKey("the admin's"), local=True)
USERS = Users("a key")
SETS = {"private": EditSet.new("private", "acme"), "news": EditSet.new("news", None)}
ADMIN, ACME = {ADMIN_HEADER: "the admin's"}, {TENANT_HEADER: "acme's own"}
ANN = {USER_HEADER: USERS.key_of("ann")}


@pytest.mark.parametrize(
    ("access", "users", "headers", "variant", "named"),
    [
        (OPEN, Users(), {}, "default", True),
        (OPEN, Users(), {"x-forwarded-for": "192.0.2.7"}, "default", False),
        (OPEN, USERS, {}, "default", False),
        (OPEN, USERS, ANN, "default", True),
        (GUARDED, Users(), {}, "default", False),
        (GUARDED, Users(), ANN, "default", False),
        (GUARDED, Users(), ADMIN, "default", True),
        (GUARDED, USERS, ANN, "default", True),
        (GUARDED, Users(), ACME, "private", True),
        (GUARDED, Users(), ACME, "news", False),
        (GUARDED, Users(), ACME, "default", False),
    ],
)
def test_a_user_is_named_by_those_who_may(
    access: Access, users: Users, headers: dict[str, str], variant: str, named: bool
) -> None:
    service: Any = SimpleNamespace(edit_set=SETS.__getitem__)
    tenants = Tenants({"acme": HashedKey("acme's own")})
    state = edit_state(service, access, tenants=tenants, users=users)
    assert state.proven_user("ann", Headers(headers), variant) == ("ann" if named else None)
