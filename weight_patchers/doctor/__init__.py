"""Examines a model before it is edited: which layers to edit, at what cost, and what fails."""
