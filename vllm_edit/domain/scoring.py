"""Measures by published definitions, as pure functions.

Each of reliability, generalization, locality and portability is measured twice:

- *generated*: the server answers greedily and the answer is compared as a whole (`exact_match`,
  `unchanged`), as text is used.
- *teacher-forced*: the target is put behind the prompt, and the share of its tokens counts at
  which the greedy token is the target's (`token_match`), as ROME's zsRE evaluation and EasyEdit's
  `rewrite_acc` do it. It flatters, since a wrong token is corrected before the next (Yang et al.
  2025, arXiv 2502.11177), so it never stands alone.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

_ARTICLES = frozenset({"a", "an", "the"})
_PUNCTUATION = re.compile(r"[^\w\s]|_")
_CUT = re.compile(r"[.,;:!?()\"\n]")
_WORDS = re.compile(r"\w+|[^\w\s]")
_WORD = re.compile(r"\w+")


def normalized(text: str) -> str:
    """Without case, punctuation, articles and spare spaces (SQuAD, Rajpurkar et al. 2016)."""
    plain = _PUNCTUATION.sub("", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(word for word in plain.split() if word not in _ARTICLES)


def exact_match(generated: str, answers: Sequence[str]) -> float:
    """1 if the generated answer is one of the answers, normalised; else 0.

    It is one if the text from its beginning to a punctuation mark or its end is: "Paris, in the
    north" answers Paris, "Paris Hilton" does not.
    """
    ends = [match.start() for match in _CUT.finditer(generated)]
    prefixes = {normalized(generated[:end]) for end in (*ends, len(generated))}
    return float(any(text in prefixes for answer in answers if (text := normalized(answer))))


def begins_with(generated: str, target: str) -> float:
    """1 if the generated answer begins with the target, both normalised; else 0.

    What begins is whole words: "Paris, in the north" and "Paris Hilton" begin with Paris,
    "Parisian" does not. Where words are written without spaces between them (Chinese, Japanese,
    Korean) any character may follow.
    """
    if not normalized(target):
        return float(generated.strip().startswith(target.strip()))
    return float(any(_begins(f(generated), f(target)) for f in (normalized, _normalized_apart)))


def _normalized_apart(text: str) -> str:
    """Normalised, with a space for each mark at which an answer may end."""
    return normalized(_CUT.sub(" ", text))


def _begins(text: str, start: str) -> bool:
    if not start or not text.startswith(start):
        return False
    return text[len(start) :][:1] in ("", " ") or unicodedata.east_asian_width(start[-1]) in "WF"


def runs_on(generated: str, answers: Sequence[str]) -> float | None:
    """1 if the line or sentence goes on behind the answer, 0 if it ends there.

    None if the text does not begin with an answer: there is nothing to run on from. "Paris" and
    "Paris. It is" end; "Paris, which is" and "Paris Paris" run on. LocFT (Yang et al. 2026) and
    Mirage (Yang et al. 2025) count such an answer as wrong.
    """
    told = [answer for answer in answers if begins_with(generated, answer)]
    behind = [text for answer in told if (text := _behind(generated, answer)) is not None]
    if not behind:
        return None
    return float(_WORD.search(first_sentence(min(behind, key=len))) is not None)


def says(generated: str, answers: Sequence[str]) -> float:
    """1 if the first sentence or line contains one of the answers as whole words; else 0."""
    said = f" {' '.join(_plain_words(first_sentence(generated.lstrip())))} "
    wanted = [" ".join(_plain_words(answer)) for answer in answers]
    return float(any(text and f" {text} " in said for text in wanted))


def first_word(text: str) -> str:
    """The first word, without regard to case; "" if there is none."""
    return next(iter(_WORD.findall(text.casefold())), "")


def unchanged(before: str, after: str) -> float:
    """1 if the first line or sentence generated is the same as before the edit; else 0."""
    first, second = (normalized(first_sentence(text.strip())) for text in (before, after))
    return float(first == second)


def first_sentence(text: str) -> str:
    """The text up to the end of its first line or sentence, without the mark that ends it."""
    return re.split(r"[.!?](?=\s|$)|\n", text, maxsplit=1)[0]


def _behind(text: str, answer: str) -> str | None:
    """The text behind the answer; None if it does not begin with the answer's words."""
    wanted, end = _plain_words(answer), 0
    if not wanted:
        return None
    for match in _WORD.finditer(text):
        if not wanted:
            break
        word = unicodedata.normalize("NFKC", match[0]).casefold()
        if word == wanted[0]:
            wanted = wanted[1:]
            end = match.end()
        elif word not in _ARTICLES:
            return None
    return None if wanted else text[end:]


def _plain_words(text: str) -> list[str]:
    """Without case, marks and articles; a hyphen or a full stop parts words."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return [word for word in _WORD.findall(plain) if word not in _ARTICLES]


def token_match(greedy: Sequence[int], target: Sequence[int]) -> float:
    """Share of target positions whose greedy token is the target's, under teacher forcing.

    EasyEdit's `test_prediction_acc` and ROME's zsRE accuracy (Meng et al. 2022). For locality the
    target is what was greedy there before the edit (EasyEdit): agreement, not correctness.
    """
    pairs = zip(greedy, target, strict=True)
    return sum(a == b for a, b in pairs) / len(target)


def harmonic_mean(scores: Sequence[float]) -> float:
    """CounterFact's Score over efficacy, paraphrase and specificity; 0 if one of them is 0."""
    if not scores or min(scores) <= 0:
        return 0.0
    return len(scores) / sum(1 / score for score in scores)


def prefers(nll_wanted: float, nll_other: float) -> float:
    """1 if the wanted object is likelier: mean of -log p over an object's own tokens.

    CounterFact's efficacy and paraphrase success have the new object as the wanted one,
    neighbourhood success (specificity) the true one (Meng et al. 2022).
    """
    return float(nll_wanted < nll_other)


def ngram_entropy(text: str) -> float:
    """Fluency (GE): (2/3 H2 + 4/3 H3) / 2 in bits over a text's bigrams and trigrams.

    Zhang et al. 2018, weighted as ROME does; words and punctuation marks are split by a
    regular expression instead of NLTK. Published tables show it times 100.
    """
    words = _WORDS.findall(text)
    bigrams = Counter(pairwise(words))
    trigrams = Counter(zip(words, words[1:], words[2:], strict=False))
    return (2 / 3 * _entropy(bigrams) + 4 / 3 * _entropy(trigrams)) / 2


def _entropy(counts: Counter[Any]) -> float:
    total = sum(counts.values())
    return -sum(n / total * math.log2(n / total) for n in counts.values())


def kl_divergence(before: Mapping[int, float], after: Mapping[int, float]) -> float:
    """KL(before || after) of the next token, over the tokens given and all others as one.

    Both map the same token ids to log-probabilities: the likeliest before the edit. Since the
    others are lumped together it is a lower bound of the whole vocabulary's.
    """
    divergence = sum(math.exp(p) * (p - after[token]) for token, p in before.items())
    rest_before = 1 - sum(math.exp(p) for p in before.values())
    rest_after = 1 - sum(math.exp(p) for p in after.values())
    if rest_before > 0 and rest_after > 0:
        divergence += rest_before * math.log(rest_before / rest_after)
    return max(divergence, 0.0)


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean."""
    return sum(values) / len(values)
