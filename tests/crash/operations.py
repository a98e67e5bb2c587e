"""What a client can ask for that changes edits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import httpx


@dataclass(frozen=True)
class Post:
    """Edits sent together."""

    edits: Sequence[Mapping[str, Any]]
    wait: bool

    def send(self, client: httpx.Client) -> httpx.Response:
        return client.post("/v1/edits", json={"edits": self.edits, "wait": self.wait})


@dataclass(frozen=True)
class Delete:
    """An edit to be taken back."""

    edit_id: str

    def send(self, client: httpx.Client) -> httpx.Response:
        return client.delete(f"/v1/edits/{self.edit_id}")


@dataclass(frozen=True)
class CreateSet:
    """An edit set to be made."""

    name: str

    def send(self, client: httpx.Client) -> httpx.Response:
        return client.post("/v1/edit-sets", json={"name": self.name})


@dataclass(frozen=True)
class ActivateSet:
    """An edit set to be shown to default traffic, or no more."""

    name: str
    active: bool

    def send(self, client: httpx.Client) -> httpx.Response:
        return client.patch(f"/v1/edit-sets/{self.name}", json={"active": self.active})


@dataclass(frozen=True)
class DeleteSet:
    """An edit set to be ended with all that is in it."""

    name: str

    def send(self, client: httpx.Client) -> httpx.Response:
        return client.delete(f"/v1/edit-sets/{self.name}")


Operation: TypeAlias = Post | Delete | CreateSet | ActivateSet | DeleteSet
