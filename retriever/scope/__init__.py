"""Does a fact concern a request? Candidates are looked up, and a trained classifier decides.

Candidates are the facts whose subject or alias a request names (whole words; case, accents and
typography ignored). If there are none, they are the nearest facts whose subject it names in a
similar spelling. The classifier reads the request and each fact together, the name masked in both,
and gives a probability. A fact is in scope if this reaches the threshold.
"""

from retriever.scope.classifier import Classifier, ScopeClassifier, shipped_classifier

__all__ = ["Classifier", "ScopeClassifier", "shipped_classifier"]
