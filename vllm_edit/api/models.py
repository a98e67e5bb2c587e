"""GET /v1/models, which replaces vLLM's: the models and variants that the client may see."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from vllm_edit.api.routers import viewer_of
from vllm_edit.engine.model_names import ModelNames
from vllm_edit.request.edit_state import find_edit_state
from vllm_edit.security.visibility import viewing

read_routes = APIRouter()


@read_routes.get("/v1/models")
async def list_models(request: Request) -> Response:
    """vLLM's own list, with the variants that the client may see."""
    models = request.app.state.openai_serving_models
    state = find_edit_state(request.app.state)
    if state is None:
        return JSONResponse((await models.show_available_models()).model_dump())
    with viewing(viewer_of(request)):
        listed = (await models.show_available_models()).model_dump()
        listed["data"] = _named(state.names, listed["data"])
    return JSONResponse(listed)


def _named(names: ModelNames, cards: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cards under the names by which clients ask."""
    # A variant's card must not tell where an adapter lies on this machine.
    ours = {"root": cards[0]["root"], "parent": cards[0]["id"]}
    return [
        card if names.variant_of(name) is None else {**card, "id": name, **ours}
        for name, card in zip(names.listed(), cards, strict=True)
    ]
