"""Processes that are started, and what they need of the machine."""
