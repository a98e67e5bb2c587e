"""The life of edits and edit sets: the one place that changes their state."""
