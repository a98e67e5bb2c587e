"""Which requests may be questions that take several hops to answer."""

_MARKS = ("?", "\uff1f", "\u061f", "\u037e")


def is_question(text: str, longest: int) -> bool:
    """Whether the text is one question, no longer than so many characters."""
    text = text.strip()
    return len(text) <= longest and "\n" not in text and text.endswith(_MARKS)
