"""Tunes methods for a model: facts it tells, key statistics, search, and judgement."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from weight_patchers import statistics
from weight_patchers.common_fact import CommonFact
from weight_patchers.errors import InvalidEdit, UnusableStatistics
from weight_patchers.methods import METHODS
from weight_patchers.model.layers import projection
from weight_patchers.statistics import Statistics
from weight_patchers.statistics.texts import Source, from_files
from weight_patchers.tuning.cases import Case, draw_cases, told_facts
from weight_patchers.tuning.journal import Journal, digest
from weight_patchers.tuning.judging import Judge
from weight_patchers.tuning.search import FEWEST, Clock, Found, search
from weight_patchers.tuning.space import Space
from weight_patchers.tuning.trial import BATCH, SINGLE, Bench, Trial
from weight_patchers.tuning.written_text import written_text

# Told facts that are looked for, for each case: neighbours are among them.
_TOLD_PER_CASE = 4
# Layers whose statistics are summed in one pass over the text.
_SUMS_BYTES = 2 << 30

Report = Callable[[str, str, float, Trial | None], None]
"""Called with the method, the stage, the share of the method's time that was used, and the best
trial of the stage."""


@dataclass(frozen=True)
class TuningPlan:
    """What is tuned: `minutes` for all methods together, `judged` facts set apart.

    Methods that solve edits together are also tried with all facts of a stage in one batch, unless
    `batch` is false. `neighbours` are asked for each edit. With `present` the settings in force are
    searched from and judged as well.
    """

    methods: tuple[str, ...]
    minutes: float = 60.0
    judged: int = 32
    neighbours: int = 4
    batch: bool = True
    present: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if unknown := [name for name in self.methods if name not in METHODS]:
            raise InvalidEdit(f"no weight method {', '.join(unknown)}; there are {tuple(METHODS)}")
        if self.minutes <= 0 or self.judged < FEWEST or self.neighbours < 1:
            raise InvalidEdit(
                f"minutes must be above 0, judged at least {FEWEST}, neighbours at least 1"
            )

    @property
    def searched(self) -> int:
        """How many facts the search uses."""
        return max(FEWEST, self.judged // 2)

    def regimes(self, method: str) -> tuple[str, ...]:
        """How the method's edits are made."""
        return (SINGLE, BATCH) if self.batch and METHODS[method].values else (SINGLE,)


def tune(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    fingerprint: str,
    facts: Sequence[CommonFact],
    text: Source | None,
    plan: TuningPlan,
    folder: Path,
    statistics_folder: Path,
    report: Report,
) -> list[Found]:
    """Search each method's settings, and judge the best of them on facts set apart.

    Everything found is kept in `folder`; the same call resumes from it, and a call with more
    minutes goes on. Without a `text`, key statistics are made from what the model writes, which is
    kept as text.txt in the folder. The model is left unchanged.
    Raises InvalidEdit when the model tells too few of the facts.
    """
    head = {
        "fingerprint": fingerprint,
        "facts": digest([asdict(fact) for fact in facts]),
        "text": None if text is None else text.name,
        "seed": plan.seed,
        "judged": plan.judged,
        "neighbours": plan.neighbours,
    }
    journal = Journal(folder / "journal.jsonl", head)
    judge = Judge(model, tokenizer)
    spaces = [Space.of(name, model.config, chat=judge.has_chat) for name in plan.methods]
    used, apart = _cases(model, tokenizer, facts, plan, journal, report)
    layers = sorted({layer for space in spaces for layer in _layers(space)})
    known = Statistics(fingerprint, "none", 0, statistics.dtype_name(model), {})
    if layers:
        report("", "key statistics", 0.0, None)
        source = text or _written(model, tokenizer, facts, layers, folder, plan.seed)
        known = _statistics(model, tokenizer, source, layers, fingerprint, statistics_folder)
    found = []
    for space in spaces:
        bench = Bench(judge, known, journal)
        clock = Clock(plan.minutes * 60 / len(spaces), before=journal.seconds(space.method))

        def tell(stage: str, share: float, best: Trial | None, method: str = space.method) -> None:
            report(method, stage, share, best)

        regimes = plan.regimes(space.method)
        found.append(
            search(space, bench, used, apart, regimes, clock, plan.seed, tell, present=plan.present)
        )
        tell("done", 1.0, found[-1].best)
    return found


def _cases(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    facts: Sequence[CommonFact],
    plan: TuningPlan,
    journal: Journal,
    report: Report,
) -> tuple[list[Case], list[Case]]:
    """The cases of the search and those set apart, the same in a resumed search."""
    count = plan.searched + plan.judged
    places = journal.get("told")
    if places is None:

        def tell(done: int, of: int) -> None:
            report("", f"facts asked: {done} of {of}", 0.0, None)

        told = told_facts(model, tokenizer, facts, count * _TOLD_PER_CASE, plan.seed, tell)
        by_fact = {fact: place for place, fact in enumerate(facts)}
        places = [by_fact[fact] for fact in told]
        journal.add("told", places)
    told = [facts[place] for place in places]
    cases = draw_cases(told, facts, count, plan.neighbours, plan.seed)
    if len(cases) < 2 * FEWEST:
        raise InvalidEdit(
            f"the model tells {len(told)} of the facts, enough for {len(cases)} edits: give facts "
            f"for at least {2 * FEWEST}, several of each relation"
        )
    count = min(plan.searched, max(len(cases) - plan.judged, len(cases) // 2))
    return cases[:count], cases[count:]


def _layers(space: Space) -> set[int]:
    """Layers whose statistics the search may need."""
    if not {"covariance", "covariance_weight", "null_share"} & set(space.present):
        return set()
    settings = [space.present, *space.places]
    return {layer for s in settings for layer in s.get("layers", (s.get("layer"),))}


def _written(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    facts: Sequence[CommonFact],
    layers: Sequence[int],
    folder: Path,
    seed: int,
) -> Source:
    path = folder / "text.txt"
    if not path.exists():
        tokens = statistics.sample_size(model, layers)
        text = "\n\n".join(written_text(model, tokenizer, facts, tokens, seed))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".part").write_text(text + "\n", encoding="utf-8")
        path.with_suffix(".part").replace(path)
    return from_files(path)


def _statistics(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    source: Source,
    layers: Sequence[int],
    fingerprint: str,
    folder: Path,
) -> Statistics:
    """The statistics of all layers, from the folder or collected a few layers at a time."""
    widest = max(projection(model, layer).d_in for layer in layers)
    each = max(1, _SUMS_BYTES // (12 * widest**2))
    for start in range(0, len(layers), each):
        statistics.obtain(
            model,
            tokenizer,
            source,
            layers=layers[start : start + each],
            fingerprint=fingerprint,
            folder=folder,
        )
    key = (source.name, statistics.dtype_name(model), 0)
    found = statistics.load(folder, fingerprint, layers, *key)
    if found is None:
        raise UnusableStatistics(f"the statistics stored in {folder} are gone again: try once more")
    return found
