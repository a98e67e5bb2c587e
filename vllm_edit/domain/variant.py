"""The variants of the model's knowledge, of which every request sees exactly one."""

BASE = "base"
"""The model without edits."""

DEFAULT = "default"
"""For requests that choose no variant: the edits in no set, and those in active sets."""

RESERVED = frozenset({BASE, DEFAULT})
"""Names that no edit set can have."""

SEPARATOR = "@"


def model_name(served: str, variant: str) -> str:
    """The model name by which a client chooses the variant of a served model."""
    return f"{served}{SEPARATOR}{variant}"
