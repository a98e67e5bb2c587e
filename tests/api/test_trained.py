"""Edits made by a trained editor, over real HTTP: told, taken back exactly, in any order."""

import httpx

from tests.cases import Case, answer, post, roll_back
from tests.crash.replay import digests

METHOD = "mend"


def test_edits_are_told_and_taken_back_to_the_bit(own: httpx.Client, facts: list[Case]) -> None:
    first, second = facts[:2]
    base = digests(own)
    alone = post(own, first.edit(METHOD))
    assert answer(own, first.prompt) == first.target_new
    only = digests(own)
    assert only != base
    other = post(own, second.edit(METHOD))
    for case in (first, second):
        assert answer(own, case.prompt) == case.target_new
    both = digests(own)
    roll_back(own, other)
    assert digests(own) == only
    roll_back(own, alone)
    assert digests(own) == base
    assert answer(own, first.prompt) == first.ground_truth

    for case in (second, first):
        post(own, case.edit(METHOD))
    assert digests(own) == both
