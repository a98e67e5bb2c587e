"""Edits as rows of tokens, and v*: the value that each edit needs at its subject's last token."""
