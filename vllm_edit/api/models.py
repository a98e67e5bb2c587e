"""GET /v1/models in the place of vLLM's: the models and variants that the client may see."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from vllm_edit.api.visibility import sees
from vllm_edit.engine.model_names import ModelNames
from vllm_edit.service.service import EditService

reading = APIRouter()


@reading.get("/v1/models")
async def list_models(request: Request) -> Response:
    """vLLM's own list, in which the variants are, without those of other tenants."""
    state = request.app.state
    listed = (await state.openai_serving_models.show_available_models()).model_dump()
    service: EditService | None = getattr(state, "edit_service", None)
    if service is not None:
        listed["data"] = _visible(request, service, listed["data"])
    return JSONResponse(listed)


def _visible(
    request: Request, service: EditService, cards: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The cards that the client may see, under the names by which clients ask."""
    names: ModelNames = request.app.state.edit_front.names
    see = sees(request)
    hidden = {edit_set.name for edit_set in service.edit_sets() if not see(edit_set)}
    shown = []
    for name, card in zip(names.listed(), cards, strict=True):
        variant = names.variant_of(name)
        if variant is None:
            shown.append(card)
        elif variant not in hidden:
            # Where an adapter lies on this machine is nobody's business.
            shown.append({**card, "id": name, "root": cards[0]["root"], "parent": cards[0]["id"]})
    return shown
