"""Trains an editor: the loop, its losses, and how it is validated."""
