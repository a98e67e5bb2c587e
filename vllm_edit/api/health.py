"""GET /edits/ready: whether requests should be sent to this server."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from vllm_edit.api.routers import errors_docs
from vllm_edit.request.edit_state import edit_state_of
from vllm_edit.request.health import require_ready

# Not under /v1, as vLLM's /health is not: what watches over a server has no key.
read_routes = APIRouter(prefix="/edits", tags=["edits"])


@read_routes.get(
    "/ready",
    response_class=Response,
    responses=errors_docs({503: "Not now; the code says why."}),
)
async def ready(request: Request) -> Response:
    """200 if the server serves what is recorded, else 503."""
    require_ready(edit_state_of(request))
    return Response()
