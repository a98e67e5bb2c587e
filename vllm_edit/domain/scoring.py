"""Measures by published definitions, as pure functions.

Each of reliability, generalization, locality and portability is measured twice:

- *generated*: the server answers greedily and the answer is compared as a whole (`exact_match` and
  `unchanged` of `weight_patchers.wording`), as text is used.
- *teacher-forced*: the target is put behind the prompt, and the share of its tokens counts at
  which the greedy token is the target's (`token_match`), as ROME's zsRE evaluation and EasyEdit's
  `rewrite_acc` do it. It flatters, since a wrong token is corrected before the next (Yang et al.
  2025, arXiv 2502.11177), so it never stands alone.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

_WORDS = re.compile(r"\w+|[^\w\s]")


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
