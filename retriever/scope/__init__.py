"""Does a fact concern a request? Facts that may are looked up, a trained classifier decides.

Candidates are the facts whose subject or an alias a request names (whole words; case, accents and
typography aside), or else the nearest of those whose subject it names in nearly the right words;
the classifier reads the request and each fact together, the name masked in both, and gives a
probability. A fact is in scope from the threshold on.
"""

from retriever.scope.classifier import Classifier, ScopeClassifier, shipped_classifier

__all__ = ["Classifier", "ScopeClassifier", "shipped_classifier"]
