"""Rows of a problem in lanes of about one length, so that little of a pass is padding."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from weight_patchers.model.batch import Batch
from weight_patchers.model.suffix import Suffix

# Another pass costs about as much as this many tokens of padding.
_PASS_TOKENS = 48


@dataclass(frozen=True, eq=False)
class Lane:
    """Some rows of a problem: their indices, inputs, and the places whose logits are wanted.

    `places` are the indices of these among all places that are wanted; place i is at
    (`place_rows[i]`, `place_columns[i]`) of the lane's batch.
    """

    rows: Tensor
    batch: Batch
    suffix: Suffix
    places: Tensor
    place_rows: Tensor
    place_columns: Tensor

    def logits(self) -> Tensor:
        """Logits [places, vocabulary]."""
        return self.suffix.logits(self.batch, self.place_rows, self.place_columns)


def lanes(suffix: Suffix, batch: Batch, rows: Tensor, columns: Tensor) -> tuple[Lane, ...]:
    """The rows of a batch in lanes; the logits at (rows[i], columns[i]) are wanted."""
    chosen = [_lane(part, suffix, batch, rows, columns) for part in by_length(batch.mask.sum(1))]
    return tuple(lane for lane in chosen if len(lane.places))


def by_length(lengths: Tensor) -> Iterator[Tensor]:
    """Indices of rows in parts, each padded to its longest row, with few tokens in all.

    A part is cut in two where that saves more tokens than another pass costs.
    """
    yield from _cut(lengths.argsort(), lengths)


def _cut(rows: Tensor, lengths: Tensor) -> Iterator[Tensor]:
    own = lengths[rows]
    first = torch.arange(1, len(rows), device=rows.device)
    saved = first * (own[-1] - own[:-1])
    if not len(saved) or int(saved.max()) <= _PASS_TOKENS:
        yield rows.sort().values
        return
    at = int(saved.argmax()) + 1
    yield from _cut(rows[:at], lengths)
    yield from _cut(rows[at:], lengths)


def _lane(part: Tensor, suffix: Suffix, batch: Batch, rows: Tensor, columns: Tensor) -> Lane:
    place = torch.full((len(batch.ids),), -1, device=part.device)
    place[part] = torch.arange(len(part), device=part.device)
    places = (place[rows] >= 0).nonzero()[:, 0]
    mask = batch.mask[part]
    longest = int(mask.sum(1).max())
    return Lane(
        rows=part,
        batch=Batch(batch.ids[part, :longest], mask[:, :longest]),
        suffix=suffix.only(part, longest),
        places=places,
        place_rows=place[rows[places]],
        place_columns=columns[places],
    )
