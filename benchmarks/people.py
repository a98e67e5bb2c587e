"""Any number of facts about invented people, and questions about others."""

from collections.abc import Iterator
from itertools import product

from retriever import Fact

_ONSETS = "b br d dr f g gr h j k kl l m n p pr r s st t tr v w z".split()
_VOWELS = "a e i o u ai ei ou".split()
_CODAS = ["", "l", "m", "n", "r", "s", "th"]
_SYLLABLES = [a + b + c for a, b, c in product(_ONSETS, _VOWELS, _CODAS)]
_FIRST, _LAST = 1_500, 40_000
_STEP = 7_919 * 104_729  # coprime to the number of people, so each number gives another person

_RELATIONS = (
    "The employer of {} is",
    "{} was born in the city of",
    "The spouse of {} is",
    "The native language of {} is",
    "{} plays the position of",
    "The religion of {} is",
    "{} was educated at the university of",
    "The instrument that {} plays is the",
    "The most famous work of {} is",
    "{} is a citizen of",
)
_QUESTIONS = (
    "Who employs {}?",
    "In which city was {} born?",
    "Tell me to whom {} is married.",
    "What did {} study, and where?",
)
_OTHERS = (
    "Write a short poem about the sea in autumn, number {}.",
    "How many days are there in {} weeks?",
    "What is the boiling point of water at {} metres above the sea?",
    "Translate the sentence 'the train leaves at {}' into French.",
    "Summarise the plot of a novel with {} chapters in three sentences.",
    "Why does bread rise when it is baked for {} minutes?",
)


def facts(count: int) -> Iterator[Fact]:
    """Facts about different people."""
    return map(fact, range(count))


def fact(number: int) -> Fact:
    """The fact with this number."""
    name = _name(number)
    prompt = _RELATIONS[number % len(_RELATIONS)].format(name)
    return Fact(f"edit-{number:016x}", name, prompt, _name(number + 7))


def prompts(count: int) -> list[str]:
    """Prompts of facts about different people."""
    return [fact.prompt for fact in facts(count)]


def requests(count: int, first: int = 0) -> list[str]:
    """Different questions, alternately about people without facts and about no person.

    `first` is the number of the first question.
    """
    questions = []
    for number in range(first, first + count):
        about = _name(_FIRST * _LAST - 1 - number)
        question = _OTHERS[number // 2 % len(_OTHERS)].format(number + 2)
        personal = _QUESTIONS[number // 2 % len(_QUESTIONS)].format(about)
        questions.append(question if number % 2 else personal)
    return questions


def _name(number: int) -> str:
    chosen = number * _STEP % (_FIRST * _LAST)
    first, last = chosen % _FIRST, chosen // _FIRST
    return f"{_word(first, 2)} {_word(last + 7 * _LAST, 3)}"


def _word(number: int, syllables: int) -> str:
    parts = []
    for _ in range(syllables):
        number, rest = divmod(number * 31 + 11, len(_SYLLABLES))
        parts.append(_SYLLABLES[rest])
    return "".join(parts).capitalize()
