"""Retention by the age of an edit, and the collapse point."""

from vllm_edit.evaluation.retention import by_age, collapse_points


def judged(*told: float) -> list[dict[str, dict[str, float]]]:
    return [{"scores": {"reliability/begins": value}} for value in told]


def row(method: str, count: int, told: float, moment: str = "at the end") -> dict[str, object]:
    metrics = {"reliability/begins": {"mean": told}}
    return {"method": method, "regime": "sequential", "count": count, "moment": moment,
            "metrics": metrics}  # fmt: skip


def test_the_oldest_tenth_comes_first() -> None:
    parts = by_age(judged(*[0.0] * 2, *[1.0] * 18))
    assert len(parts) == 10
    assert parts[0] == {"first": 1, "last": 2, "told": 0.0}
    assert parts[-1] == {"first": 19, "last": 20, "told": 1.0}


def test_a_short_sequence_has_a_part_for_each_edit() -> None:
    assert [part["told"] for part in by_age(judged(1.0, 0.0, 1.0))] == [1.0, 0.0, 1.0]
    assert by_age([{"scores": {}}]) == []


def test_the_collapse_point_is_the_first_count_below_the_bound() -> None:
    rows = [row("rome", 40, 0.2), row("rome", 10, 0.95), row("rome", 20, 0.85), row("ike", 40, 1.0)]
    assert collapse_points(rows, 0.9) == {"rome": 20, "ike": None}
    assert collapse_points([row("rome", 10, 0.0, "right after")], 0.9) == {}
