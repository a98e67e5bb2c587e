"""Memory edits: which facts concern a request, and what is served instead of it."""
