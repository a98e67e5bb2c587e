"""The gate: edits are judged by what the server answers with them, and rolled back if it is bad."""
