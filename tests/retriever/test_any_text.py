"""Whatever texts facts and requests hold, routing decides and raises nothing."""

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retriever import (
    Fact,
    InvalidFactError,
    Pass,
    Retriever,
    RetrieverSettings,
    Rewrite,
    SentenceEncoder,
)
from retriever.parsed_request import ContextShare

CASES = int(os.environ.get("VLLM_EDIT_FUZZ_CASES", "60"))
"""How many cases Hypothesis tries; 10,000 take a quarter of an hour."""

ODD = (
    "\u00b4\u00a8\u00af\u0301\u0327\u200d\u00ad\ufdfa\u3000ﬁİßΐ각\u1100\u1161漢ツ\u0660"
    ".?!\n'\"[]s -"
)

texts = st.text(st.sampled_from(ODD) | st.characters(codec="utf-8"), max_size=40)
words = texts | st.sampled_from(
    ["Dubai", "x\u00b4", "U.S.", "the", "Paul Smith", "東京", "a" * 300]
)


@st.composite
def facts(draw: st.DrawFn) -> list[Fact]:
    return [
        Fact(
            str(number),
            subject := draw(words),
            draw(texts) + " " + subject + " " + draw(texts),
            draw(texts),
            aliases=tuple(draw(st.lists(words, max_size=2))),
            method=draw(st.sampled_from(["ike", "mello", "serac"])),
        )
        for number in range(draw(st.integers(1, 3)))
    ]


@st.composite
def requests(draw: st.DrawFn, stored: list[Fact]) -> str | list[dict[str, Any]]:
    naming = words | st.sampled_from([name for f in stored for name in (f.subject, *f.aliases)])
    parts = st.lists(texts | naming, max_size=6).map(" ".join)
    long = parts.map(lambda text: text * 200)
    if draw(st.booleans()):
        return draw(parts | long)
    content = parts | long | st.none() | st.lists(parts.map(lambda t: {"type": "text", "text": t}))
    turns = st.fixed_dictionaries({"role": st.sampled_from(["user", "system"]), "content": content})
    return draw(st.lists(turns, max_size=3))


@pytest.mark.timeout(3600)
@settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data(), facts(), st.sampled_from([None, True]), st.integers(1, 2000))
def test_routing_raises_nothing(
    encoder: SentenceEncoder, data: st.DataObject, stored: list[Fact], hops: bool, tokens: int
) -> None:
    retriever = Retriever(encoder, settings=RetrieverSettings(threshold=0.0))
    for fact in stored:
        try:
            retriever.check(fact)
        except InvalidFactError:
            continue
        retriever.add(fact)
    request = data.draw(requests(stored))
    parsed = retriever.parse(request, ContextShare(tokens, 16, 16))
    quick = retriever.quick_pass(parsed)
    decision = retriever.route(parsed, hops)
    assert quick is None or quick == decision or hops
    if isinstance(decision, Rewrite):
        assert decision.edit_ids
        end = decision.text if isinstance(request, str) else decision.messages
        assert end is not None
        assert len(end) >= len(request)
    for fact in stored:
        if len(retriever):
            try:
                retriever.remove(fact.id)
            except KeyError:
                continue
    assert retriever.route(request) == Pass("empty_memory")
