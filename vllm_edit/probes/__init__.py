"""The gate: edits are judged by what the server answers with them, and taken back if it is bad."""
