"""Does a fact concern a text? The text must name it, and ask about the same thing.

A fact is in scope when the text names its subject or an alias (whole words; case, accents and
typography aside) and the best cosine between the fact's prompt and a sentence of the text that
names it reaches the threshold. The name is masked in both: a shared name, which the first
condition has settled, must not hide a different relation.

Measured with all-MiniLM-L6-v2, one fact in memory, over 9,408 pairs of published data. The
threshold of the best balanced accuracy was chosen on half of the subjects (0.41 on either half)
and gave on the other half: recall 0.86, false alarms 0.17, balanced accuracy 0.85; the cosine of
the unmasked texts gave 0.78 the same way. Both rates are means over data sets. At 0.41, all pairs:

    in scope      0.94 of PokeMQA's scope questions, 0.92 of KnowEdit's zsRE rephrasings,
                  0.97 of MEND's zsRE rephrasings, 0.63 of CounterFact's paraphrases
    false alarms  0.28 of KnowEdit's Relation_Specificity (same subject, another relation),
                  0.06 of scope questions about another edit of the same subject,
                  0 of 2,639 CounterFact and zsRE locality prompts (other subjects)

    threshold     0.34   0.40   0.46   0.52   0.58   0.64
    recall        0.90   0.87   0.81   0.77   0.69   0.63
    false alarms  0.35   0.18   0.14   0.11   0.08   0.07

On factworld's wordings (every pair of relations of one kind of subject) at 0.41: recall 0.86,
false alarms 0.17. A subject that the text does not name as stored (6 % of the scope and
rephrased zsRE questions of PokeMQA and KnowEdit) is missed at any threshold: give aliases.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from retriever.fact import Fact
from retriever.text import mask, replace, words

PLACEHOLDER = "someone"
DEFAULT_THRESHOLD = 0.41
PRONOUNS = frozenset({"he", "him", "his", "she", "her", "it", "its", "they", "them", "their"})


def fact_text(fact: Fact) -> str:
    """What is embedded for a fact: its prompt with the subject masked."""
    return mask(fact.prompt, fact.subject, PLACEHOLDER)


def windows(
    text: str, bounds: Sequence[int], spans: Sequence[tuple[int, int]], limit: int
) -> list[str]:
    """The pieces of a text to compare with the facts of one name, the name masked.

    `text` is normalised, `bounds` are its sentence bounds, `spans` (not empty) where it names
    the subject. The pieces are the last `limit` sentences that name it and, where the sentence
    after them has a pronoun, that sentence: a name may be brought up in one sentence and asked
    about in the next.
    """
    pieces = []
    for start, end in spans[-limit:]:
        first, last = bisect_right(bounds, start) - 1, bisect_left(bounds, end)
        inside = [span for span in spans if bounds[first] <= span[0] and span[1] <= bounds[last]]
        pieces.append(_masked(text, bounds[first], bounds[last], inside))
    if last + 1 < len(bounds):
        following = words(text[bounds[last] : bounds[last + 1]])
        pronouns = [word for word in following if word.folded in PRONOUNS]
        if pronouns:
            inside = [(bounds[last] + word.start, bounds[last] + word.end) for word in pronouns]
            pieces.append(_masked(text, bounds[last], bounds[last + 1], inside))
    return list(dict.fromkeys(pieces))


def _masked(text: str, start: int, end: int, spans: Sequence[tuple[int, int]]) -> str:
    inside = [(a - start, b - start) for a, b in spans]
    return replace(text[start:end], inside, PLACEHOLDER).strip()
