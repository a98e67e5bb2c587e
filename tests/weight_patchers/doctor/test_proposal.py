import math

import pytest

from weight_patchers.doctor.proposal import Proposal, propose
from weight_patchers.doctor.tracing import Trace


def _trace(effects: list[float], clean: float = 0.9, corrupted: float = 0.1) -> Trace:
    mlp = tuple(effects)
    return Trace(
        given=9,
        recalled=9,
        traced=9,
        samples=1,
        window=1,
        clean=clean,
        corrupted=corrupted,
        mlp_at_subject=mlp,
        hidden_at_subject=mlp,
        hidden_at_last=mlp,
    )


def _bell(layers: int, centre: float, width: float) -> list[float]:
    return [0.3 * math.exp(-(((layer - centre) / width) ** 2)) for layer in range(layers)]


@pytest.mark.parametrize(
    ("effects", "expected"),
    [
        ([0.8, 0.3, 0.2, 0.01, 0.01, 0.0], Proposal(1, (0, 1, 2))),
        ([0.0, 0.05, 0.2, 0.4, 0.2, 0.05, 0.0, 0.2], Proposal(3, (2, 3, 4))),
        ([0.0] * 11 + [0.5], Proposal(11, (11,))),
        ([0.2, 0.01, 0.5, 0.01, 0.2], Proposal(2, (2,))),
        (_bell(48, 17.0, 9.0), Proposal(17, (15, 16, 17, 18, 19))),
        (_bell(28, 1.0, 9.0), Proposal(4, (2, 3, 4, 5, 6))),
        ([0.2] * 8, Proposal(4, (2, 3, 4, 5, 6))),
    ],
)
def test_layers_around_the_centre_of_the_effect_are_proposed(
    effects: list[float], expected: Proposal
) -> None:
    assert propose(_trace(effects)) == expected


def test_the_range_ends_where_the_critical_layers_do() -> None:
    proposal = propose(_trace([0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.8]))
    assert proposal == Proposal(5, (2, 3, 4, 5, 6))


@pytest.mark.parametrize(
    "found",
    [
        _trace([]),
        _trace([0.0] * 6),
        _trace([-0.1] * 6),
        _trace([0.07] * 6),
        # The noise takes nothing away, or adds something.
        _trace([0.3] * 6, corrupted=0.85),
        _trace([0.3] * 6, corrupted=0.95),
    ],
)
def test_nothing_is_proposed_from_nothing(found: Trace) -> None:
    assert propose(found) is None
