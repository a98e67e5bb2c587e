"""What the routes have in common: those that change something admit who asks first."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Depends, Request

from vllm_edit.api.admission import admit_change
from vllm_edit.api.schemas import ErrorOut
from vllm_edit.http_errors import no_engine
from vllm_edit.replication.member import Member
from vllm_edit.service.service import EditService

ResponseDocs = dict[int | str, dict[str, Any]]


def errors_docs(descriptions: Mapping[int, str]) -> ResponseDocs:
    """How OpenAPI is told of error statuses."""
    return {k: {"model": ErrorOut, "description": text} for k, text in descriptions.items()}


def reading_router(prefix: str) -> APIRouter:
    """A router for routes that change nothing."""
    responses = errors_docs(
        {401: "The tenant's key is nobody's.", 503: "This server takes no edits."}
    )
    return APIRouter(prefix=prefix, tags=["edits"], responses=responses)


def changing_router(prefix: str) -> APIRouter:
    """A router for routes that change something: whoever asks must be admitted first."""
    responses = errors_docs(
        {
            401: "The request lacks the admin key of this server.",
            403: "This server has no admin key, and takes changes from its own machine only.",
            429: "This client asks for too many changes; Retry-After says when to go on.",
            503: "This server takes no edits, or, with Retry-After, none now.",
        }
    )
    return APIRouter(
        prefix=prefix, tags=["edits"], dependencies=[Depends(admit_change)], responses=responses
    )


def member_of(request: Request) -> Member:
    """What makes changes on the server that got the request; raises Unavailable if it has none."""
    member: Member | None = getattr(request.app.state, "edit_member", None)
    if member is None:
        raise no_engine()
    return member


def service_of(request: Request) -> EditService:
    """The service of the server that got the request; raises Unavailable if it has none."""
    service: EditService | None = getattr(request.app.state, "edit_service", None)
    if service is None:
        raise no_engine()
    return service
