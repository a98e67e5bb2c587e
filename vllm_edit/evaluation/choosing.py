"""Chooses records by what the unedited model tells before the edit."""

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from vllm_edit.evaluation.plan import KNOWN, EvaluationPlan
from vllm_edit.evaluation.question import Question
from vllm_edit.evaluation.record import Record
from vllm_edit.evaluation.sample import Choose
from vllm_edit.evaluation.target import Model, Target
from weight_patchers.wording import begins_with


def choose_records(plan: EvaluationPlan, target: Target, file: Path) -> Choose | None:
    """How the plan chooses records; None if it takes all. A choice is stored in the file.

    An interrupted run that goes on takes the stored choice of the same plan and target.
    """
    if plan.only is None:
        return None
    made_for = {**plan.described(), "target": target.name}

    def choose(records: Sequence[Record]) -> list[Record]:
        stored = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        if stored.get("made_for") == made_for:
            cases = set(stored["cases"])
            return [record for record in records if record.case in cases]
        with target.open(plan.methods[0]) as model:
            wanted = wanted_records(model.model, records, plan.only == KNOWN)
            chosen = list(islice(wanted, plan.edits))
        content = {"made_for": made_for, "cases": [record.case for record in chosen]}
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content) + "\n", encoding="utf-8")
        return chosen

    return choose


def wanted_records(model: Model, records: Sequence[Record], known: bool) -> Iterator[Record]:
    """Records whose true answer the model tells or, if not `known`, whose target it does not tell.

    A record without a true answer is known if its target is told.
    """
    for record in records:
        question = Question(record.prompt, record.target_new)
        said = model.answer([question])[question].generated
        if known and begins_with(said, record.ground_truth or record.target_new):
            yield record
        if not known and not begins_with(said, record.target_new):
            yield record
