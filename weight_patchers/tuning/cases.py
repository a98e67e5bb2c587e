"""Edits to try: counterfactuals of facts that the model tells, and what must not change."""

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from weight_patchers.common_fact import CommonFact
from weight_patchers.edit import Edit
from weight_patchers.errors import InvalidEdit
from weight_patchers.tuning.asking import ROWS, answers
from weight_patchers.wording import begins_with

_ANSWER_TOKENS = 8


@dataclass(frozen=True)
class Case:
    """An edit, other wordings of its prompt, and prompts of other subjects of its relation."""

    edit: Edit
    rewordings: tuple[str, ...]
    neighbours: tuple[str, ...]


def told_facts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    facts: Sequence[CommonFact],
    wanted: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> list[CommonFact]:
    """Facts whose prompt the model completes by their answer, asked in random order.

    It is asked until there are `wanted` ones, or no more facts. `progress(done, of)` counts facts
    that were asked.
    """
    order = list(facts)
    random.Random(seed).shuffle(order)  # noqa: S311
    told: list[CommonFact] = []
    for start in range(0, len(order), ROWS):
        asked = order[start : start + ROWS]
        said = answers(model, tokenizer, [fact.prompts[0] for fact in asked], _ANSWER_TOKENS)
        pairs = zip(asked, said, strict=True)
        told += [fact for fact, text in pairs if begins_with(text, fact.answer)]
        if progress is not None:
            progress(start + len(asked), len(order))
        if len(told) >= wanted:
            break
    return told


def draw_cases(
    told: Sequence[CommonFact],
    facts: Sequence[CommonFact],
    count: int,
    neighbours: int,
    seed: int,
) -> list[Case]:
    """At most `count` cases, spread over the relations; their subjects are all different.

    The target is another answer of the relation. Neighbours are told facts, as far as there are
    enough, half of them with the edited fact's own answer; no neighbour's subject is edited in any
    case. Raises InvalidEdit when the told facts make no case.
    """
    rng = random.Random(seed)  # noqa: S311
    by_relation: dict[str, list[CommonFact]] = defaultdict(list)
    for fact in told:
        by_relation[fact.relation].append(fact)
    everything: dict[str, list[CommonFact]] = defaultdict(list)
    for fact in facts:
        everything[fact.relation].append(fact)
    chosen = _spread(by_relation, everything, count, rng)
    edited = {fact.subject for fact in chosen}
    cases = []
    for fact in chosen:
        same = everything[fact.relation]
        targets = sorted({f.answer for f in same if not _alike(f.answer, fact.answer)})
        near = _near(fact, by_relation[fact.relation], same, edited, neighbours, rng)
        if targets and near:
            edit = Edit(fact.prompts[0], fact.subject, rng.choice(targets))
            cases.append(Case(edit, fact.prompts[1:], tuple(f.prompts[0] for f in near)))
    if not cases:
        raise InvalidEdit(
            f"of the facts given, the model tells {len(told)}, which make no edit to try: give "
            "facts that it tells, several of each relation"
        )
    return cases


def _spread(
    told: dict[str, list[CommonFact]],
    everything: dict[str, list[CommonFact]],
    count: int,
    rng: random.Random,
) -> list[CommonFact]:
    """Facts of each relation in turn, but not all of any relation: the rest are neighbours."""
    queues = []
    for relation, facts in sorted(told.items()):
        most = max(1, min(len(facts), len(everything[relation]) - 1) * 2 // 3)
        queues.append(rng.sample(facts, most))
    rng.shuffle(queues)
    chosen: list[CommonFact] = []
    subjects: set[str] = set()
    while len(chosen) < count and any(queues):
        for queue in queues:
            if queue and len(chosen) < count:
                fact = queue.pop()
                if fact.subject not in subjects:
                    subjects.add(fact.subject)
                    chosen.append(fact)
    return chosen


def _near(
    fact: CommonFact,
    told: Sequence[CommonFact],
    same: Sequence[CommonFact],
    edited: set[str],
    count: int,
    rng: random.Random,
) -> list[CommonFact]:
    known = [f for f in told if f.subject not in edited]
    others = [f for f in same if f.subject not in edited and f not in known]
    rng.shuffle(known)
    rng.shuffle(others)
    equal = [f for f in known if f.answer == fact.answer][: (count + 1) // 2]
    rest = [f for f in (*known, *others) if f not in equal]
    return [*equal, *rest][:count]


def _alike(one: str, other: str) -> bool:
    return bool(begins_with(one, other) or begins_with(other, one))
