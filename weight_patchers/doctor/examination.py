"""Whether and how a model can be edited, as data: structure, layers, statistics, costs."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from weight_patchers import statistics
from weight_patchers.doctor.diagnosis import Finding, LayerStatistics, MethodReport, Report
from weight_patchers.doctor.estimate import cost, measure, preparation
from weight_patchers.doctor.fact import KnownFact
from weight_patchers.doctor.knowledge import assess
from weight_patchers.doctor.proposal import Proposal, propose
from weight_patchers.doctor.reading import Reading, read
from weight_patchers.doctor.structure import describe, require_editable
from weight_patchers.doctor.tracing import Trace, trace
from weight_patchers.errors import PatcherError
from weight_patchers.hyperparameters import find, shipped
from weight_patchers.methods import METHODS
from weight_patchers.values.contexts import chat_context

EDITS = (1, 10, 1000)
# A proposal from fewer facts than this comes with a warning.
FEW_FACTS = 5

Progress = Callable[[str, int, int], None]


def refuse(config: PretrainedConfig) -> Report | None:
    """The report if the config shows that the model cannot be edited, else None."""
    try:
        require_editable(config)
    except PatcherError as error:
        return Report(findings=(_blocking(error),))
    return None


def examine(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    facts: Sequence[KnownFact] = (),
    texts: Iterable[str] | None = None,
    chat: bool = False,
    dtype: str | None = None,
    samples: int = 10,
    most: int = 30,
    progress: Progress | None = None,
) -> Report:
    """Examine a loaded model and leave it unchanged.

    With `facts`, at most `most` that the model recalls are traced with `samples` draws of noise,
    and the first `most` are scored by how well the model knows them;
    with `texts`, key statistics of the layers in question are collected and inverted, not stored;
    with `chat` the tokenizer must have a chat template. `dtype` is the checkpoint's, if the
    model was loaded in another. Never raises a PatcherError: errors become findings.
    `progress(stage, done, of)` is called for `tracing` and `statistics`.
    """
    exam = _Exam(model, tokenizer, progress)
    report = Report()
    with exam.noting_errors():
        report = replace(report, structure=describe(model, dtype))
        with exam.noting_errors():
            report = replace(report, reading=exam.read_tokenizer())
        exam.check_chat(chat)
        with exam.noting_errors():
            report = replace(report, trace=exam.trace_facts(facts, samples, most))
        with exam.noting_errors():
            known = assess(model, tokenizer, facts[:most])
            report = replace(report, knowledge=tuple(known))
        report = replace(report, proposal=propose(report.trace) if report.trace else None)
        report = replace(report, methods=exam.weigh_methods(report.proposal))
        report = replace(report, statistics=exam.try_statistics(report.methods, texts))
    return replace(report, findings=tuple(exam.findings))


class _Exam:
    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        progress: Progress | None,
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.findings: list[Finding] = []
        self._progress = progress

    @contextmanager
    def noting_errors(self) -> Iterator[None]:
        """An error inside becomes a finding, each only once."""
        try:
            yield
        except PatcherError as error:
            finding = _blocking(error)
            if finding not in self.findings:
                self.findings.append(finding)

    def read_tokenizer(self) -> Reading:
        reading = read(self.tokenizer)
        if not reading.begins:
            self._note(
                "nothing_in_front",
                "the tokenizer puts no token in front of a text: a subject that stands first is at "
                "position 0, where a model's keys are often like no others. Judge edits by the "
                "bare prompt and by one behind other text; memory methods do not depend on it",
            )
        return reading

    def check_chat(self, chat: bool) -> None:
        if chat:
            with self.noting_errors():
                chat_context(self.tokenizer)

    def trace_facts(self, facts: Sequence[KnownFact], samples: int, most: int) -> Trace | None:
        if not facts:
            self._note("no_facts", "no facts were given, so no layers are proposed: give --facts")
            return None
        result = trace(
            self.model,
            self.tokenizer,
            facts,
            samples=samples,
            most=most,
            progress=self._stage("tracing"),
        )
        self._judge(result)
        return result

    def _judge(self, result: Trace) -> None:
        if not result.recalled:
            self.findings.append(
                Finding(
                    "recalls_none",
                    True,
                    f"the model recalls none of the {result.given} facts: give facts that it "
                    "knows, each answer as the model would put it after the prompt",
                )
            )
        elif not result.traced:
            self._note(
                "nothing_to_trace",
                "every fact that is recalled has its subject at the prompt's end: "
                "tracing needs prompts that go on after the subject",
            )
        elif propose(result) is None:
            self._note(
                "nothing_at_subject",
                "tracing finds no layer whose MLP recalls facts at the subject's last token: "
                "ROME, MEMIT and their relatives may not take; measure them, or take ft-m or a "
                "memory method",
            )
        elif result.traced < FEW_FACTS:
            self._note(
                "few_facts", f"layers are proposed from {result.traced} facts only: give more"
            )

    def weigh_methods(self, proposal: Proposal | None) -> tuple[MethodReport, ...]:
        config = self.model.config
        hparams = {name: find(method.hparams, name, config) for name, method in METHODS.items()}
        layers = {layer for values in hparams.values() for layer in values.layers}
        if proposal is not None:
            layers |= {proposal.one, *proposal.several}
        speed = measure(self.model, min(layers))
        reports = []
        for name, values in hparams.items():
            proposed = None
            if proposal is not None:
                spreads = "layers" in values.__dataclass_fields__
                proposed = proposal.several if spreads else (proposal.one,)
            reports.append(
                MethodReport(
                    name=name,
                    hyperparameters=shipped(name, config),
                    layers=values.layers,
                    proposed=proposed,
                    covariance=values.covariance,
                    preparation=preparation(self.model, values),
                    costs=tuple(
                        cost(self.model, METHODS[name], values, count, speed) for count in EDITS
                    ),
                )
            )
        return tuple(reports)

    def try_statistics(
        self, methods: Sequence[MethodReport], texts: Iterable[str] | None
    ) -> tuple[LayerStatistics, ...]:
        if texts is None:
            self._note(
                "no_text",
                "no text was given, so key statistics were not tried: give --text, "
                "any plain text in the model's languages",
            )
            return ()
        layers = sorted(
            {i for m in methods if m.covariance for i in (*m.layers, *(m.proposed or ()))}
        )
        collected = statistics.collect(
            self.model,
            self.tokenizer,
            texts,
            layers=layers,
            fingerprint="",
            source="examined",
            progress=self._stage("statistics"),
        )
        self._weigh_text(collected.count, statistics.sample_size(self.model, layers))
        return tuple(self._invert(collected, layer) for layer in layers)

    def _weigh_text(self, count: int, required: int) -> None:
        if count < required:
            self._note(
                "little_text", f"the text has {count} tokens; good statistics take {required}"
            )

    def _invert(self, collected: statistics.Statistics, layer: int) -> LayerStatistics:
        factor = collected.factor(layer)
        if factor.ridge:
            self._note(
                "ridge",
                f"in this text the keys of layer {layer} hardly reach some directions: a small "
                "ridge is added to invert their statistics",
            )
        return LayerStatistics(layer, collected.count, factor.condition, factor.ridge)

    def _note(self, code: str, message: str) -> None:
        self.findings.append(Finding(code, False, message))

    def _stage(self, name: str) -> Callable[[int, int], None] | None:
        progress = self._progress
        if progress is None:
            return None
        return lambda done, of: progress(name, done, of)


def _blocking(error: PatcherError) -> Finding:
    return Finding(error.code, True, str(error))
