"""Rows in lanes of about one length: the same logits, fewer tokens."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedModel

from tests.weight_patchers.conftest import BuildModel
from weight_patchers.model.batch import pad
from weight_patchers.model.suffix import read
from weight_patchers.values.lanes import by_length, lanes


@given(st.lists(st.integers(1, 60), min_size=1, max_size=80))
def test_every_row_is_in_one_part_and_no_part_is_wasteful(lengths: list[int]) -> None:
    parts = list(by_length(torch.tensor(lengths)))
    assert sorted(torch.cat(parts).tolist()) == list(range(len(lengths)))
    padded = sum(len(part) * max(lengths[i] for i in part.tolist()) for part in parts)
    assert padded <= len(lengths) * max(lengths)


def test_few_long_rows_do_not_lengthen_the_others() -> None:
    parts = list(by_length(torch.tensor([8] * 40 + [30] * 3)))
    assert [len(part) for part in parts] == [40, 3]


def test_logits_in_lanes_are_those_of_the_whole(build_model: BuildModel) -> None:
    model: PreTrainedModel = build_model("llama").eval()
    texts = [[5] * 4, *([[7, 8, 9]] * 30), list(range(2, 32))]
    batch = pad(texts, model.device)
    rows = torch.tensor([31, 0, 3, 31, 0])
    columns = torch.tensor([29, 3, 2, 10, 1])
    first = torch.ones(len(texts), dtype=torch.int64)
    suffix, whole, _ = read(model, 1, batch, rows, columns, {}, first)
    found = lanes(suffix, batch.only_from(first), rows, columns - 1)
    assert len(found) > 1
    with torch.no_grad():
        order = torch.cat([lane.places for lane in found]).argsort()
        logits = torch.cat([lane.logits() for lane in found])[order]
    assert torch.allclose(logits, whole, atol=1e-4)
