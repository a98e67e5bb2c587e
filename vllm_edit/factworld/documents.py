"""Training documents: text for the model, with loss weights."""

import random
from dataclasses import dataclass, field
from typing import NamedTuple

from vllm_edit.factworld.wordings import SUBJECT, TwoHop

BACKGROUND = 0.05


GIVEN = {"subject": "given subject", "answer": "given answer"}


class Span(NamedTuple):
    """A piece of text, the loss weight of its tokens, and its kind.

    The kind is "subject", "answer", a value of `GIVEN`, or empty. The text begins with a space, a
    newline or punctuation, or is a special token.
    """

    text: str
    weight: float = 0.0
    kind: str = ""


Spans = list[Span]


@dataclass
class Document:
    """A prefix and its branches. Each branch continues the prefix and cannot see the others.

    `recall`: the answers come from the model's own memory alone. `matched`: the branches ask about
    the statements in the prefix or about related facts. `edited`: the first two branches give one
    relation of the subject a new answer; the others are true.
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
    """A wording with its answer; the answer and its full stop have loss weight 1."""
    return [*about(wording, subject, weight), Span(f" {answer}.", 1.0, "answer")]


def silent(spans: Spans) -> Spans:
    """The same text with loss weight 0, marked as given."""
    return [Span(span.text, 0.0, GIVEN.get(span.kind, "")) for span in spans]


def in_training(hop: TwoHop, subject: str) -> bool:
    """Whether training documents may ask this two-hop question about this subject."""
    return random.Random(f"{hop.first} {hop.second} {subject}").random() < 0.85
