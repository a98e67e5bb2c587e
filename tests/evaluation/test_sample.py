"""The selection of the records of a run."""

import json
from pathlib import Path

import pytest

from vllm_edit.domain.errors import InvalidData
from vllm_edit.evaluation.sample import CONTROLS, draw


@pytest.fixture
def source(tmp_path: Path) -> str:
    """Forty editable records, and two that cannot be edited."""
    items = [
        {
            "prompt": f"Land {number}x lies in",
            "subject": f"Land {number}x",
            "target_new": "Asia",
            "ground_truth": "Europe",
            "locality_prompt": "Crete lies in",
            "locality_ground_truth": "Europe",
        }
        for number in range(40)
    ]
    items += [items[0], {**items[1], "prompt": "It lies in"}]
    path = tmp_path / "lands.json"
    path.write_text(json.dumps(items))
    return f"easyedit:{path}"


def test_records_are_drawn_by_the_seed_and_more_include_fewer(source: str) -> None:
    few, more = draw(source, 5, 1), draw(source, 30, 1)
    prompts = [record.prompt for record in more.records]
    assert [record.prompt for record in few.records] == prompts[:5]
    assert prompts != [record.prompt for record in draw(source, 30, 2).records]
    assert len(set(prompts)) == 30
    assert more.left_out == 2


def test_the_worlds_records_are_drawn_by_the_seed() -> None:
    few, more = draw("factworld", 5, 1), draw("factworld", 50, 1)
    prompts = [record.prompt for record in more.records]
    assert [record.prompt for record in few.records] == prompts[:5]
    assert len(more.control) == CONTROLS


def test_control_prompts_are_not_edited_and_serve_as_unrelated_probes(source: str) -> None:
    sample = draw(source, 25, 0)
    edited = {record.prompt for record in sample.records}
    assert len(sample.control) == 15
    assert not edited & {probe.prompts[0] for probe in sample.control}
    assert all(record.locality["unrelated"][0] in sample.control for record in sample.records)
    assert draw(source, 40, 0).control == ()


def test_a_distracting_neighbour_has_the_new_fact_in_front(source: str) -> None:
    record = draw(source, 1, 0).records[0]
    (probe,) = record.locality["distracting_neighbour"]
    assert probe.prompts == (f"{record.prompt} Asia. Crete lies in",)
    assert probe.answers == ("Europe",)


def test_a_count_above_the_number_of_records_is_refused(source: str) -> None:
    with pytest.raises(InvalidData, match="has 40 records"):
        draw(source, 41, 0)
