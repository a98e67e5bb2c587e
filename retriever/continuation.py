"""How an answer follows a prompt: with a space between them, or without.

`weight_patchers.continuation` holds the same code, because neither package imports the
other. A test compares the two files.
"""

import re

_OPENING = tuple("([{<\u00ab\u00bf\u00a1\u2018\u201e\u201a")
"""Marks that the next word follows without a space."""
_CLOSING = re.compile(
    r"""[,;)\]}>\u00bb\u201d\u3001\u3002\uff0c\uff0e\uff01\uff1f\u060c\u061b\u061f\u0964]
    | [.:!?%](?!\w)         # a mark, but not the beginning of ".NET" or "!Kung"
    | ['\u2019]s?(?![\w-])  # an apostrophe, but not that of "'s-Hertogenbosch"
    """,
    re.VERBOSE,
)
"""What follows a word without a space."""
_CURRENCY = re.compile(r"(?:^|[^\d\s]|[^\d]\s)[$\u00a3\u20ac\u00a5\u20b9]$")
"""A sign before an amount ("$5"), not one behind it ("5 $")."""
_TAG = re.compile(r"(?:^|[\s(])[#@]$")
"""A sign before a number or name: "#1", "@ada"."""
_ATTACHED = re.compile(r"\S[-\u2010\u2011\u2013\u2014/]$")
_DECIMALS = re.compile(r"[.,:]\d")
# Scripts written without spaces between words: Thai, Lao, Burmese, Khmer, kana, Han.
_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3000-\u30ff\u3400-\u9fff\uff00-\uffef]"
)


def continue_with(prompt: str, target: str) -> str:
    """The text in which `target` follows `prompt`, with one space between where one belongs.

    None belongs behind an opening mark ("($", "“"), before a closing one, at a line's end, or
    behind a script that is written without spaces.
    """
    prompt = prompt.rstrip(" ")
    if not prompt or prompt[-1].isspace() or target[:1].isspace():
        return prompt + target
    return prompt + target if _follows_directly(prompt, target) else f"{prompt} {target}"


def _follows_directly(prompt: str, target: str) -> bool:
    if _CLOSING.match(target) or _UNSPACED.match(prompt[-1]):
        return True
    if prompt[-1].isdigit() and _DECIMALS.match(target):
        return True
    if _CURRENCY.search(prompt[-3:]):
        return target[:1].isdigit() or bool(_DECIMALS.match(target))
    if _TAG.search(prompt[-2:]):
        return target[:1].isalnum()
    return bool(_ATTACHED.search(prompt[-2:])) or _opens(prompt)


def _opens(prompt: str) -> bool:
    """Whether the prompt ends in a mark that opens what follows."""
    last = prompt[-1]
    if last in "'\"":
        apart = not prompt[-2:-1].strip() or prompt[-2] in _OPENING
        return apart and (last == "'" or prompt.count(last) % 2 == 1)
    if last == "\u201c":  # opens in English, closes in German
        return prompt.count("\u201e") < prompt.count("\u201c")
    return last in _OPENING
