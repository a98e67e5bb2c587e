"""The staged search of one method's settings.

Successive halving (Jamieson & Talwalkar 2016): many settings are tried on few facts, the best of
them on more. In between, what did well is varied by one hyperparameter at a time.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from weight_patchers.tuning.cases import Case
from weight_patchers.tuning.judging import TOLD_WANTED, front
from weight_patchers.tuning.space import Settings, Space
from weight_patchers.tuning.trial import BATCH, SINGLE, Bench, Trial

FEWEST = 4
"""No stage uses fewer facts."""
SURVIVORS, FINALISTS = 3, 4
# The shares of the time after which the first and the second stage end. The rest is for the
# judgement, which is made in any case.
_COARSE_END, _FINE_END = 0.4, 0.75

Report = Callable[[str, float, Trial | None], None]
"""Called with the stage, the share of the time that was used, and the best trial so far."""


@dataclass(eq=False)
class Clock:
    """The time of one method's search: what it may take, and took before it was interrupted."""

    seconds: float
    before: float = 0.0
    _start: float = field(default_factory=time.monotonic)

    def used(self) -> float:
        """The share of the time that is used up."""
        return (self.before + time.monotonic() - self._start) / self.seconds


@dataclass(frozen=True)
class Found:
    """The judged trials of a method on facts set apart; `before` are the settings now in force."""

    method: str
    before: Settings
    trials: Sequence[Trial]

    @property
    def best(self) -> Trial:
        """The trial with the highest value."""
        return max(self.trials, key=lambda trial: trial.value)

    @property
    def on_front(self) -> list[bool]:
        """For each trial whether no other is better in told, reworded and kept together."""
        return front([_coordinates(trial) for trial in self.trials])


def search(
    space: Space,
    bench: Bench,
    used: Sequence[Case],
    apart: Sequence[Case],
    regimes: Sequence[str],
    clock: Clock,
    seed: int,
    report: Report,
    *,
    present: bool = True,
) -> Found:
    """Search on the cases `used`, half of them at first, and judge on the cases `apart`.

    With `present` the settings in force are searched from and judged as well.
    """
    rng = random.Random(seed)  # noqa: S311
    # A batch of few edits is judged faster than each alone.
    fast = (BATCH,) if BATCH in regimes else (SINGLE,)
    few = used[: max(FEWEST, len(used) // 2)]
    coarse = _Stage("coarse", bench, space.method, few, fast, clock, report)
    if present:
        _climb(space, coarse, space.present)
    for start in space.starts(rng):
        if coarse.trials and clock.used() > _COARSE_END:
            break
        _climb(space, coarse, start)
    fine = _Stage("fine", bench, space.method, used, regimes, clock, report)
    if present:
        fine.tried(space.present)
    for trial in _different(space, coarse.best())[:SURVIVORS]:
        fine.tried(trial.settings)
    _vary(space, fine, rng)
    final = _Stage("final", bench, space.method, apart, regimes, clock, report)
    for trial in _finalists(fine.best()):
        final.tried(trial.settings)
    if present:
        final.tried(space.present)
    return Found(space.method, space.present, list(final.trials.values()))


@dataclass(eq=False)
class _Stage:
    """Trials on the same facts, in the order they were made."""

    name: str
    bench: Bench
    method: str
    cases: Sequence[Case]
    regimes: Sequence[str]
    clock: Clock
    report: Report
    trials: dict[str, Trial] = field(default_factory=dict)

    def tried(self, settings: Settings) -> Trial:
        key = repr(sorted(settings.items()))
        if key not in self.trials:
            self.report(self.name, self.clock.used(), next(iter(self.best()), None))
            self.trials[key] = self.bench.tried(self.method, settings, self.cases, self.regimes)
        return self.trials[key]

    def best(self) -> list[Trial]:
        """All trials, the best first."""
        return sorted(self.trials.values(), key=lambda trial: -trial.value)


def _climb(space: Space, stage: _Stage, settings: Settings) -> None:
    """Try the ladder's values from the middle: towards keeping while edits are told, else back."""
    low, high = 0, max(len(space.ladder) - 1, 0)
    while low <= high:
        middle = (low + high) // 2
        valid = space.valid(space.on_rung(settings, middle))
        if valid is None:
            return
        if stage.tried(valid).told >= TOLD_WANTED - 0.1:
            low = middle + 1
        else:
            high = middle - 1


def _vary(space: Space, stage: _Stage, rng: random.Random) -> None:
    """Try changes of the best trial, in random order, until none is better or time is up."""
    tried: set[str] = set()
    while stage.clock.used() < _FINE_END:
        best = stage.best()[0]
        options = [s for s in _steps(space, best.settings) if repr(sorted(s.items())) not in tried]
        rng.shuffle(options)
        if not options:
            return
        for settings in options:
            tried.add(repr(sorted(settings.items())))
            if stage.clock.used() > _FINE_END:
                return
            if stage.tried(settings).value > best.value:
                break


def _steps(space: Space, settings: Settings) -> Iterator[Settings]:
    """Settings next to these: one rung up or down, or one hyperparameter changed."""
    here = space.nearest_rung(settings)
    for number in (here - 1, here + 1):
        if 0 <= number < len(space.ladder) and (s := space.valid(space.on_rung(settings, number))):
            yield s
    yield from space.changes(settings)


def _different(space: Space, trials: Sequence[Trial]) -> list[Trial]:
    """The best trial of each choice of layers."""
    places: dict[object, Trial] = {}
    for trial in trials:
        places.setdefault(trial.settings.get("layers", trial.settings.get("layer")), trial)
    return list(places.values())


def _finalists(trials: Sequence[Trial]) -> list[Trial]:
    """The best trials, and before them those that no other is better than in all respects."""
    worked = [trial for trial in trials if trial.scores] or list(trials)
    flags = front([_coordinates(trial) for trial in worked])
    ahead = [trial for trial, flag in zip(worked, flags, strict=True) if flag]
    order = [worked[0], *ahead, *worked]
    unique = {repr(sorted(trial.settings.items())): trial for trial in order}
    return list(unique.values())[:FINALISTS]


def _coordinates(trial: Trial) -> tuple[float, float, float]:
    """Told, reworded and kept, each the mean of the regimes; -1 for a trial that failed."""
    if not trial.scores:
        return -1.0, -1.0, -1.0
    scores = list(trial.scores.values())
    return (
        sum(s.told for s in scores) / len(scores),
        sum(s.reworded or 0.0 for s in scores) / len(scores),
        sum(s.kept_word for s in scores) / len(scores),
    )
