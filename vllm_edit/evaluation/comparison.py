"""Compares variants of one server: the quality and the latency of their answers."""

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
FLOOR = "unedited, asked again"
ABOUT = "about an edit"
OTHERS = "about others"


@dataclass(frozen=True)
class MeanScore:
    """A mean from 0 to 1 with the ends of its bootstrap interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class VariantResult:
    """One variant: scores by metric, as `judge` names them, and latencies by kind of request."""

    variant: str
    scores: Mapping[str, MeanScore]
    waits: Mapping[str, Sequence[Latency]]


@dataclass(frozen=True)
class Comparison:
    """Compares variants: latencies of `requests` per kind with `clients` at once, and scores."""

    variants: Sequence[str]
    records: Sequence[Record]
    seed: int
    requests: int
    clients: int

    def run(
        self, connection: ServerClient, model: str, on_step: Callable[[], None]
    ) -> list[VariantResult]:
        """Compare the variants, which are served as `model@variant`. Raises EditError.

        `on_step` is called when a variant is timed, when it is scored, and when the unedited model
        has answered twice. The last result is that of the unedited model against itself.
        """
        # Timed first, because a cache may answer a repeated question.
        waits = self._waits(connection, model)
        for _ in self.variants:
            on_step()
        all_questions = list(dict.fromkeys(q for record in self.records for q in questions(record)))
        base = ServedModel(connection, f"{model}@{BASE}")
        before = base.generate(all_questions)
        floor = self._scores(before, base.generate(all_questions))
        on_step()
        results = []
        for variant in self.variants:
            after = ServedModel(connection, f"{model}@{variant}").generate(all_questions)
            results.append(VariantResult(variant, self._scores(before, after), waits[variant]))
            on_step()
        return [*results, VariantResult(FLOOR, floor, {})]

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
        """Latencies by variant and kind. Each prompt is sent to all variants, in rotating order."""
        jobs = list(self._jobs())

        def wait(job: tuple[str, str, str]) -> Latency:
            variant, _, prompt = job
            body = {"model": f"{model}@{variant}", "prompt": prompt, "max_tokens": MAX_TOKENS}
            return connection.wait({**body, "temperature": 0.0})

        waits: dict[str, dict[str, list[Latency]]] = {}
        with ThreadPoolExecutor(self.clients) as pool:
            for (variant, kind, _), waited in zip(jobs, pool.map(wait, jobs), strict=True):
                waits.setdefault(variant, {}).setdefault(kind, []).append(waited)
        return waits

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
