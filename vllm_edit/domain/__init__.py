"""Edits, sets, variants and probes: data and rules, without input or output."""
