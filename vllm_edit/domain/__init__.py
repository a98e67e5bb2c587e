"""What edits, sets, variants and probes are: data and rules, no input or output."""
