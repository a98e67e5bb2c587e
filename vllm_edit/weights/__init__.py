"""Weight edits: deltas computed by the editor process and served by the engine."""
