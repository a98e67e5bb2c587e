"""All routes, joined to an app."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI

from vllm_edit.api import edit_route, edit_sets, edit_split, edits, health, models
from vllm_edit.domain.errors import EditError
from vllm_edit.http_errors import answer_error
from vllm_edit.request.edit_state import find_edit_state


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Stop with the server."""
    yield
    state = find_edit_state(app.state)
    if state is not None:
        await state.member.stop()


router = APIRouter(lifespan=_lifespan)
"""All of them."""
for module in (edits, edit_sets, edit_split):
    router.include_router(module.read_routes)
    router.include_router(module.change_routes)
router.include_router(edit_route.change_routes)
router.include_router(models.read_routes)
router.include_router(health.read_routes)


def attach(app: FastAPI) -> None:
    """Add the routes to an app, and the handler of their errors."""
    app.include_router(router)
    app.add_exception_handler(EditError, answer_error)
