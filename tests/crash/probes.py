"""Routes that only servers under test have: what their kernels apply, and weights of one's own."""

from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request

from vllm_edit.engine.swap import Swapper
from vllm_edit.plugin import EditPlugin
from weight_patchers import Delta

router = APIRouter(prefix="/probes")


@router.get("/digests")
async def digests(request: Request) -> Any:
    """SHA-256 of each linear layer on each rank."""
    return await request.app.state.engine_client.collective_rpc("edit_digests")


@router.put("/weights")
async def serve_deltas(request: Request) -> None:
    """Serve base plus exactly the deltas in these files, past ledger and service."""
    state = request.app.state
    if not hasattr(state, "probe_swapper"):
        state.probe_swapper = Swapper(state.engine_client, "keep")
    deltas = [Delta.load(Path(path)) for path in await request.json()]
    await state.probe_swapper.serve(deltas, "probe")


def install() -> None:
    """Let the plugin add these routes to its own."""
    attach = EditPlugin.attach_router

    def attach_router(self: EditPlugin, app: FastAPI) -> None:
        attach(self, app)
        app.include_router(router)

    EditPlugin.attach_router = attach_router  # type: ignore[method-assign]
