"""The variants of the model's knowledge, of which every request sees exactly one."""

BASE = "base"
"""What the model knows by itself: no edits."""

DEFAULT = "default"
"""What a request sees that does not choose: the edits of no set, and those of active sets."""

RESERVED = frozenset({BASE, DEFAULT})
"""Names that no edit set can have."""

SEPARATOR = "@"


def model_name(served: str, variant: str) -> str:
    """The model name by which a client chooses the variant of a served model."""
    return f"{served}{SEPARATOR}{variant}"
