"""The REST routes under /v1/edits: the only part that knows FastAPI and pydantic."""
