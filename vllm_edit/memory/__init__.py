"""Memory edits: which facts concern a request, and what becomes of it."""
