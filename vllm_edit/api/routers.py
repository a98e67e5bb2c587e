"""What the routes have in common: those that change something check who asks."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Depends, Request

from vllm_edit.api.acting import act
from vllm_edit.api.admission import KEY_SCHEMES, check_admission
from vllm_edit.api.schemas import ErrorOut
from vllm_edit.request.edit_state import edit_state_of
from vllm_edit.security.visibility import Viewer

ResponseDocs = dict[int | str, dict[str, Any]]


def errors_docs(descriptions: Mapping[int, str]) -> ResponseDocs:
    """A route's ``responses`` for error statuses."""
    return {k: {"model": ErrorOut, "description": text} for k, text in descriptions.items()}


def read_router(prefix: str) -> APIRouter:
    """A router for routes that change nothing."""
    responses = errors_docs(
        {401: "The tenant's key is unknown.", 503: "This server takes no edits."}
    )
    return APIRouter(prefix=prefix, tags=["edits"], responses=responses)


def change_router(prefix: str) -> APIRouter:
    """A router for routes that change something: each request must pass `check_admission`."""
    responses = errors_docs(
        {
            401: "The request lacks the admin key of this server.",
            403: "The key is for reading, or this server has no key and takes changes from its own "
            "machine only.",
            429: "This client sends too many changes; Retry-After says when to go on.",
            503: "This server takes no edits, or, with Retry-After, none now.",
        }
    )
    return APIRouter(
        prefix=prefix,
        tags=["edits"],
        dependencies=[*KEY_SCHEMES, Depends(check_admission), Depends(act)],
        responses=responses,
    )


def viewer_of(request: Request) -> Viewer:
    """Who asks one of these routes; raises Unauthorized for a tenant's key that is unknown."""
    return edit_state_of(request).viewer(request.headers, manages_edits=True)
