"""A comparison as Markdown, with a recommendation."""

import statistics
from collections.abc import Sequence

from vllm_edit.evaluation.cells import NONE, aligned
from vllm_edit.evaluation.comparison import MeanScore, VariantResult
from vllm_edit.evaluation.judging import (
    GENERALIZATION,
    LOCALITY_GROUP,
    PORTABILITY_GROUP,
    RELIABILITY,
)
from vllm_edit.evaluation.probe_scores import GENERATED
from vllm_edit.evaluation.record import OTHER_RELATIONS, OTHER_SUBJECTS

MARGIN = 0.02
"""A variant can be recommended for speed if its qualities are this close to the best ones."""

_QUALITIES = (
    RELIABILITY,
    GENERALIZATION,
    f"{LOCALITY_GROUP}.{OTHER_SUBJECTS}",
    f"{LOCALITY_GROUP}.{OTHER_RELATIONS}",
    PORTABILITY_GROUP,
)


def markdown(results: Sequence[VariantResult]) -> str:
    """The tables and the recommendation; the noise floor, the last result, is beside locality."""
    *variants, floor = results
    kinds = list(results[0].waits)
    waits = [
        [one.variant, *(cell for kind in kinds for cell in _waits(one, results[0], kind))]
        for one in variants
    ]
    heads = [f"{part}, {kind}" for kind in kinds for part in ("first token ms", "whole ms")]
    quality = [
        [one.variant, *(_percent(one, name, floor) for name in _QUALITIES)] for one in variants
    ]
    titles = [name.replace("_", " ").replace(".", ", ") for name in _QUALITIES]
    parts = [
        aligned([["variant", *titles], *quality]),
        aligned([["variant", *heads], *waits]),
        "\n".join(f"- {note}" for note in (*_NOTES, *choice(variants))),
    ]
    return "\n\n".join(parts) + "\n"


_NOTES = (
    "Percentages are of generated answers, with 95 % bootstrap intervals. Locality is agreement "
    "with the unedited model, asked alone; the floor is that model, asked again, against itself.",
    "Times are medians of streamed requests, with the ratio to the first variant's.",
)


def choice(results: Sequence[VariantResult]) -> list[str]:
    """The best variants by each quality, and the recommended one."""
    sentences = [
        f"Best {title}: {', '.join(_best(results, name))}."
        for title, name in (
            ("at telling the edits in other words", GENERALIZATION),
            ("at leaving other facts alone", LOCALITY_GROUP),
            ("at what follows from the edits", PORTABILITY_GROUP),
        )
        if all(_score(one, name) for one in results)
    ]
    good = [one for one in results if all(one.variant in _near(results, n) for n in _DECIDING)]
    if not good:
        sentences.append(
            f"No variant is within {MARGIN:.0%} of the best at both: weigh wordings against "
            "locality."
        )
        return sentences
    quickest = min(good, key=_first)
    sentences.append(
        f"By these figures take {quickest.variant}: the quickest of those within {MARGIN:.0%} of "
        f"the best at both wordings and locality ({', '.join(one.variant for one in good)})."
    )
    return sentences


_DECIDING = (GENERALIZATION, LOCALITY_GROUP)


def _near(results: Sequence[VariantResult], name: str) -> list[str]:
    scores = {one.variant: score.mean for one in results if (score := _score(one, name))}
    return [v for v, value in scores.items() if value >= max(scores.values()) - MARGIN]


def _best(results: Sequence[VariantResult], name: str) -> list[str]:
    """The best variant, and those with an interval that includes its mean."""
    scores = {one.variant: score for one in results if (score := _score(one, name))}
    best = max(score.mean for score in scores.values())
    return [f"{v} ({100 * s.mean:.1f} %)" for v, s in scores.items() if s.high >= best]


def _score(one: VariantResult, name: str) -> MeanScore | None:
    return one.scores.get(f"{name}/{GENERATED}")


def _percent(one: VariantResult, name: str, floor: VariantResult) -> str:
    score, against_itself = _score(one, name), _score(floor, name)
    if score is None:
        return NONE
    interval = f"{100 * score.low:.1f} to {100 * score.high:.1f}"
    if against_itself is not None and name.startswith(LOCALITY_GROUP):
        interval += f"; floor {100 * against_itself.mean:.1f}"
    return f"{100 * score.mean:.1f} ({interval})"


def _waits(one: VariantResult, first: VariantResult, kind: str) -> list[str]:
    cells = []
    for part in ("first", "whole"):
        mine, theirs = (
            statistics.median(getattr(waited, part) for waited in of.waits[kind])
            for of in (one, first)
        )
        cells.append(f"{1000 * mine:.1f} (x{mine / theirs:.2f})")
    return cells


def _first(one: VariantResult) -> float:
    """Median seconds to the first token over all kinds."""
    return statistics.median(waited.first for waits in one.waits.values() for waited in waits)
