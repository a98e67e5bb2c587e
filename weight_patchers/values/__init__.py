"""Edits as rows of tokens, and v*: the value that each needs at its subject's last token."""
