"""Edits of the bundled world, with the prompts that judge them."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from transformers import PreTrainedModel

from vllm_edit import factworld
from vllm_edit.factworld.wordings import BY_NAME, SUBJECT
from vllm_edit.factworld.world import World
from weight_patchers import Delta, Edit


class Patch(Protocol):
    """Computes a method's delta in a model that holds the deltas `live`.

    `values` override the bundled model's hyperparameters.
    """

    def __call__(
        self, method: str, edits: Sequence[Edit], live: Sequence[Delta] = (), **values: Any
    ) -> Delta: ...


PatchEach = Callable[[str, Sequence[Edit]], list[Delta]]


@dataclass(frozen=True)
class Case:
    """An edit, with prompts in other wordings, about other subjects and about other relations."""

    edit: Edit
    relation: str
    wordings: list[str]
    subjects: list[str]
    relations: list[str]

    def is_correct(self, text: str) -> bool:
        """Whether a continuation is the new target and a full stop."""
        return text.strip() == f"{self.edit.target_new}."


def cases(world: World, count: int) -> list[Case]:
    """Edits of `count` different facts, with the prompts that judge them."""
    rng = random.Random("single edits")
    by_conflict_key: dict[tuple[str, str], Case] = {}
    for record in factworld.requests("easyedit", count, seed=7):
        (name,) = {
            fact.relation
            for fact in world.facts
            if record["prompt"] == BY_NAME[fact.relation].statement.replace(SUBJECT, fact.subject)
        }
        relation = BY_NAME[name]
        edit = Edit(record["prompt"], record["subject"], record["target_new"])
        others = [fact for fact in world.of(name) if fact.subject != edit.subject]
        case = Case(
            edit=edit,
            relation=name,
            wordings=record["rephrase_prompts"],
            subjects=[
                rng.choice(relation.trained).replace(SUBJECT, fact.subject)
                for fact in rng.sample(others, 4)
            ],
            relations=[p["prompt"] for p in record["locality"].get("Relation_Specificity", [])],
        )
        by_conflict_key.setdefault(edit.conflict_key, case)
    return list(by_conflict_key.values())


def unedited(world: World, chosen: Sequence[Case], count: int) -> list[str]:
    """Prompts for up to `count` facts, of any relation, that no case changes."""
    changed = {(case.edit.subject, case.relation) for case in chosen}
    rng = random.Random("batches")
    others = [fact for fact in world.facts if (fact.subject, fact.relation) not in changed]
    return [
        rng.choice(BY_NAME[fact.relation].trained).replace(SUBJECT, fact.subject)
        for fact in rng.sample(others, min(count, len(others)))
    ]


@contextmanager
def restored(model: PreTrainedModel) -> Iterator[None]:
    """Restore the model's parameters at the end."""
    saved = {name: value.clone() for name, value in model.state_dict().items()}
    try:
        yield
    finally:
        model.load_state_dict(saved)


def add(model: PreTrainedModel, delta: Delta) -> None:
    """Add the delta to the model's parameters."""
    for name, change in delta.changes.items():
        model.get_parameter(name).data += change.dense()
