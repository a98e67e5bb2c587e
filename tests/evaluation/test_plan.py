"""The jobs of a plan."""

from dataclasses import replace

import pytest

from vllm_edit.domain.errors import InvalidData
from vllm_edit.evaluation.evaluate import job_count
from vllm_edit.evaluation.plan import EvaluationPlan


def test_every_regime_edits_the_same_records(plan: EvaluationPlan) -> None:
    plan = replace(plan, edits=5, counts=(1, 2))
    jobs = list(plan.jobs("ike"))
    assert job_count(plan) == 1 + 2 * len(jobs)
    assert len({job.key for job in jobs}) == len(jobs)
    parts = {(job.regime, job.count, job.index): list(job.of("abcde")) for job in jobs}
    assert [parts["single", 1, index] for index in range(5)] == [[c] for c in "abcde"]
    # A batch of one is the same as a single edit.
    assert ("batch", 1, 0) not in parts
    # The last edit fills no batch of two.
    assert [parts["batch", 2, index] for index in range(2)] == [["a", "b"], ["c", "d"]]
    assert parts["sequential", 2, 0] == ["a", "b"]


@pytest.mark.parametrize(
    "change",
    [
        {"methods": ()},
        {"regimes": ()},
        {"regimes": ("double",)},
        {"edits": 0},
        {"counts": (3,)},
        {"counts": (0,)},
    ],
)
def test_an_invalid_plan_is_refused(plan: EvaluationPlan, change: dict[str, object]) -> None:
    with pytest.raises(InvalidData):
        replace(plan, **change)  # type: ignore[arg-type]
