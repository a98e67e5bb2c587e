"""A fact: what one memory edit says, and the checks that keep it data."""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from retriever.continuation import continue_with
from retriever.errors import InvalidFactError, InvalidSettingsError
from retriever.text import Name, joins_letters, name_of, names, with_full_stop

MOST_WORDS = 50
"""Words and punctuation marks that a name may have."""

_REFUSED_CATEGORIES = {"Cc", "Cf", "Cs", "Zl", "Zp"}


@dataclass(frozen=True, slots=True)
class Fact:
    """`prompt` continued by `target_new` is true. The prompt names the subject.

    The constructor checks nothing; `Retriever.add` calls `check_fact`.
    """

    id: str
    subject: str
    prompt: str
    target_new: str
    ground_truth: str | None = None
    aliases: tuple[str, ...] = ()
    method: str = "ike"
    """How it is used when it is in scope: ike, mello or serac."""

    @property
    def statement(self) -> str:
        """The prompt continued by the target, ending in `.`, `?` or `!`."""
        return with_full_stop(continue_with(self.prompt, self.target_new))

    @property
    def names(self) -> tuple[Name, ...]:
        """What its subject is called: the subject and the aliases, as far as they have words."""
        return tuple(filter(None, map(name_of, (self.subject, *self.aliases))))

    @property
    def about(self) -> tuple[Name, Name]:
        """Equal for versions of one fact: the prompt and the subject, however they are spelt."""
        return name_of(self.prompt), name_of(self.subject)


@dataclass(frozen=True, slots=True)
class FactLimits:
    """Upper limits, in characters and in aliases."""

    subject: int = 200
    """Also the limit of each alias."""
    prompt: int = 1000
    target: int = 500
    """Also the limit of `ground_truth`."""
    aliases: int = 32

    def __post_init__(self) -> None:
        if min(self.subject, self.prompt, self.target) < 1 or self.aliases < 0:
            raise InvalidSettingsError("Fact limits must be positive; `aliases` may be 0.")


def check_fact(fact: Fact, limits: FactLimits) -> None:
    """Raise `InvalidFactError` unless the fact is safe to put in front of a prompt.

    Fields are single lines without control, format or separator characters (zero-width joiners
    between letters of some scripts are allowed), within the limits, and the prompt names the
    subject as whole words. Special tokens depend on the served model, so the caller checks those.
    """
    if len(fact.aliases) > limits.aliases:
        raise InvalidFactError(
            "too_many_aliases",
            "aliases",
            f"A fact may have {limits.aliases} aliases, got {len(fact.aliases)}; send fewer.",
        )
    for field, value, limit in _fields(fact, limits):
        _check_field(field, value, limit)
    for alias in fact.aliases:
        if not name_of(alias):
            raise InvalidFactError(
                "empty_field", "aliases", f"The alias {alias!r} has no word; leave it out."
            )
    if not names(fact.prompt, fact.subject):
        raise InvalidFactError(
            "subject_not_in_prompt",
            "prompt",
            f"The prompt does not name the subject {fact.subject!r} as whole words; "
            "write the prompt so that it contains the subject.",
        )


def check_names(fact: Fact) -> None:
    """Raise `InvalidFactError` if its subject or an alias has more than `MOST_WORDS` words."""
    for field, names_of_it in (("subject", (fact.subject,)), ("aliases", fact.aliases)):
        for name in names_of_it:
            if len(name_of(name)) > MOST_WORDS:
                raise InvalidFactError(
                    "too_long", field, f"`{field}` has a name of more than {MOST_WORDS} words."
                )


def _fields(fact: Fact, limits: FactLimits) -> Iterator[tuple[str, str, int]]:
    yield "id", fact.id, limits.subject
    yield "subject", fact.subject, limits.subject
    yield "prompt", fact.prompt, limits.prompt
    yield "target_new", fact.target_new, limits.target
    if fact.ground_truth is not None:
        yield "ground_truth", fact.ground_truth, limits.target
    for alias in fact.aliases:
        yield "aliases", alias, limits.subject


def _check_field(field: str, value: str, limit: int) -> None:
    if not value.strip():
        raise InvalidFactError("empty_field", field, f"`{field}` is empty; give it some text.")
    if len(value) > limit:
        raise InvalidFactError(
            "too_long", field, f"`{field}` has {len(value)} characters, the limit is {limit}."
        )
    for at, character in enumerate(value):
        if unicodedata.category(character) in _REFUSED_CATEGORIES and not joins_letters(value, at):
            raise InvalidFactError(
                "control_character",
                field,
                f"`{field}` contains the control character U+{ord(character):04X}; "
                "send it as one line of plain text.",
            )
