"""Training documents: what the model reads, and which parts of it count."""

import random
from dataclasses import dataclass, field
from typing import NamedTuple

from vllm_edit.factworld.wordings import SUBJECT, TwoHop

BACKGROUND = 0.05


GIVEN = {"subject": "given subject", "answer": "given answer"}


class Span(NamedTuple):
    """A piece of text, the loss weight of its tokens, and what it is: subject, answer or other.

    A text begins with a space, a newline or punctuation, or is a special token.
    """

    text: str
    weight: float = 0.0
    kind: str = ""


Spans = list[Span]


@dataclass
class Document:
    """A prefix and the branches that each continue it without seeing one another.

    `recall` marks branches answered from the model's own memory alone, `matched` ones that ask
    about, or beside, the statements in the prefix. In an `edited` document
    the first two branches give a relation of the subject a new answer, the others are true.
    """

    prefix: Spans
    branches: list[Spans] = field(default_factory=list)
    recall: bool = False
    matched: bool = False
    edited: bool = False
    localise: bool = True


def about(wording: str, subject: str, weight: float = 0.0) -> Spans:
    """The spans of a wording about a subject."""
    before, after = wording.split(SUBJECT)
    spans = [Span(" " + before.strip(), weight)] if before else []
    spans.append(Span(" " + subject, weight, "subject"))
    return [*spans, Span(after, weight)]


def answered(wording: str, subject: str, answer: str, weight: float = 0.0) -> Spans:
    """A wording with its answer; the answer and its full stop count fully."""
    return [*about(wording, subject, weight), Span(f" {answer}.", 1.0, "answer")]


def silent(spans: Spans) -> Spans:
    """The same text, none of which counts, as something given."""
    return [Span(span.text, 0.0, GIVEN.get(span.kind, "")) for span in spans]


def in_training(hop: TwoHop, subject: str) -> bool:
    """Whether training documents may ask this two-hop question about this subject."""
    return random.Random(f"{hop.first} {hop.second} {subject}").random() < 0.85
