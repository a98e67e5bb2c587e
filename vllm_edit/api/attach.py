"""All routes, joined to an app."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI

from vllm_edit.api import edit_route, edit_sets, edit_split, edits, models
from vllm_edit.domain.errors import EditError
from vllm_edit.http_errors import answer_error
from vllm_edit.replication.member import Member


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Stop with the server that it was built for."""
    yield
    member: Member | None = getattr(app.state, "edit_member", None)
    if member is not None:
        await member.stop()


router = APIRouter(lifespan=_lifespan)
"""All of them."""
for room in (edits, edit_sets, edit_split):
    router.include_router(room.reading)
    router.include_router(room.changing)
router.include_router(edit_route.changing)
router.include_router(models.reading)


def attach(app: FastAPI) -> None:
    """Add the routes to an app, and the answers to what they raise."""
    app.include_router(router)
    app.add_exception_handler(EditError, answer_error)
