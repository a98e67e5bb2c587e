"""What a model goes on to say: the same as without any cache, and the same in any company."""

import pytest
import torch
from transformers import PreTrainedModel

from tests.weight_patchers.conftest import DENSE, BuildModel
from weight_patchers.values.contexts import continuations

STARTS = [[0, 5, 9, 7], [0, 8], [0, 41, 17]]


def slowly(model: PreTrainedModel, start: list[int], count: int, length: int) -> list[list[int]]:
    """By whole passes over one row at a time; sampled from the 5 most probable tokens."""
    generator = torch.Generator().manual_seed(3)

    def scores(row: list[int]) -> torch.Tensor:
        with torch.no_grad():
            return model(input_ids=torch.tensor([row]), use_cache=False).logits[0, -1]

    rows = [[*start, token] for token in scores(start).topk(count).indices.tolist()]
    for _ in range(length - 1):
        top, candidates = torch.stack([scores(row) for row in rows]).topk(5)
        drawn = candidates.gather(1, torch.multinomial(top.softmax(-1), 1, generator=generator))
        rows = [[*row, token] for row, token in zip(rows, drawn[:, 0].tolist(), strict=True)]
    return rows


@pytest.mark.parametrize("family", DENSE)
def test_continuations_are_those_of_whole_passes(build_model: BuildModel, family: str) -> None:
    model = build_model(family).eval()
    found = continuations(model, STARTS, count=3, length=4, seed=3)
    for start, rows in zip(STARTS, found, strict=True):
        assert [list(row) for row in rows] == slowly(model, start, 3, 4)
        assert len({row[len(start)] for row in rows}) == 3
