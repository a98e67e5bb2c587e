"""Variants of one server side by side: what they answer, and how long their answers take."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from vllm_edit.domain.scoring import mean
from vllm_edit.evaluation.bootstrap import interval
from vllm_edit.evaluation.judging import judge, questions
from vllm_edit.evaluation.question import MAX_TOKENS, Answers
from vllm_edit.evaluation.record import Record, RequestedRewrite
from vllm_edit.evaluation.served_model import ServedModel
from vllm_edit.evaluation.server_client import Latency, ServerClient

BASE = "base"
ABOUT = "about an edit"
OTHERS = "about others"

Step = Callable[[], None]


@dataclass(frozen=True)
class MeanScore:
    """A mean from 0 to 1 with the ends of its bootstrap interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class VariantResult:
    """One variant: scores by metric, as `judge` names them, and waits by kind of request."""

    variant: str
    scores: Mapping[str, MeanScore]
    waits: Mapping[str, Sequence[Latency]]


@dataclass(frozen=True)
class Comparison:
    """What is compared: `requests` of each kind are timed on each variant, `clients` at once."""

    variants: Sequence[str]
    records: Sequence[Record]
    seed: int
    requests: int
    clients: int

    def run(self, connection: ServerClient, model: str, step: Step) -> list[VariantResult]:
        """Ask the variants of `model`, which are `model@variant`; raises EditError.

        `step` is called for every variant when it is timed and when it is judged, and for the
        unedited model, which all are judged by.
        """
        # Before anything is asked twice: caches would show.
        waits = self._waits(connection, model)
        for _ in self.variants:
            step()
        asked = list(dict.fromkeys(q for record in self.records for q in questions(record)))
        before = ServedModel(connection, f"{model}@{BASE}").hear(asked)
        step()
        found = []
        for variant in self.variants:
            after = ServedModel(connection, f"{model}@{variant}").hear(asked)
            found.append(VariantResult(variant, self._scores(before, after), waits[variant]))
            step()
        return found

    def _scores(self, before: Answers, after: Answers) -> dict[str, MeanScore]:
        scores: dict[str, list[float]] = {}
        for record in self.records:
            judged = judge(record, before, after, self._others(record))
            for name, value in judged.scores.items():
                scores.setdefault(name, []).append(value)
        return {name: self._score(values) for name, values in sorted(scores.items())}

    def _score(self, values: Sequence[float]) -> MeanScore:
        return MeanScore(mean(values), *interval(values, self.seed))

    def _others(self, record: Record) -> list[RequestedRewrite]:
        others = (other for other in self.records if other is not record)
        return [rewrite for other in others for rewrite in other.rewrites]

    def _waits(self, connection: ServerClient, model: str) -> dict[str, dict[str, list[Latency]]]:
        """By variant and kind; every prompt goes to one variant after the other, in turn."""
        jobs = list(self._jobs())

        def wait(job: tuple[str, str, str]) -> Latency:
            variant, _, prompt = job
            body = {"model": f"{model}@{variant}", "prompt": prompt, "max_tokens": MAX_TOKENS}
            return connection.wait({**body, "temperature": 0.0})

        found: dict[str, dict[str, list[Latency]]] = {}
        with ThreadPoolExecutor(self.clients) as pool:
            for (variant, kind, _), waited in zip(jobs, pool.map(wait, jobs), strict=True):
                found.setdefault(variant, {}).setdefault(kind, []).append(waited)
        return found

    def _jobs(self) -> Iterator[tuple[str, str, str]]:
        about = [prompt for r in self.records for prompt in (r.prompt, *r.rephrasings)]
        others = [
            prompt
            for record in self.records
            for probes in record.locality.values()
            for probe in probes
            for prompt in probe.prompts
        ]
        kinds = {ABOUT: dict.fromkeys(about), OTHERS: dict.fromkeys(others)}
        for kind, prompts in kinds.items():
            for number, prompt in enumerate(itertools.islice(prompts, self.requests)):
                turn = number % len(self.variants)
                for variant in (*self.variants[turn:], *self.variants[:turn]):
                    yield variant, kind, prompt
