"""GET /v1/models, which replaces vLLM's: the models and variants that the client may see."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from vllm_edit.api.routers import viewer_of
from vllm_edit.request.edit_state import EditState, find_edit_state
from vllm_edit.security.visibility import Viewer

read_routes = APIRouter()


@read_routes.get("/v1/models")
async def list_models(request: Request) -> Response:
    """vLLM's own list, variants included, but for those that the client may not see."""
    models = request.app.state.openai_serving_models
    listed = (await models.show_available_models()).model_dump()
    state = find_edit_state(request.app.state)
    if state is not None:
        listed["data"] = _visible(state, viewer_of(request), listed["data"])
    return JSONResponse(listed)


def _visible(state: EditState, viewer: Viewer, cards: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cards that the client may see, under the names by which clients ask."""
    hidden = {edit_set.name for edit_set in state.service.edit_sets() if not viewer.sees(edit_set)}
    visible = []
    for name, card in zip(state.names.listed(), cards, strict=True):
        variant = state.names.variant_of(name)
        if variant is None:
            visible.append(card)
        elif variant not in hidden:
            # The card must not tell where an adapter lies on this machine.
            visible.append({**card, "id": name, "root": cards[0]["root"], "parent": cards[0]["id"]})
    return visible
