"""The REST surface under /v1/edits: the only part that knows HTTP and pydantic."""
