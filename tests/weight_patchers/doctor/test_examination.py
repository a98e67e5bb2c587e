import json
from collections.abc import Callable

import pytest
import torch
from tokenizers import Tokenizer, processors
from transformers import ByT5Tokenizer, LlamaConfig, PreTrainedModel, PreTrainedTokenizerFast
from transformers import T5Config as EncoderDecoderConfig

from tests.weight_patchers.conftest import DENSE, FAMILIES, LINES, MIXTURES
from weight_patchers.doctor.diagnosis import Report
from weight_patchers.doctor.examination import EDITS, examine, refuse
from weight_patchers.doctor.fact import KnownFact
from weight_patchers.doctor.reading import Reading
from weight_patchers.methods import METHODS

BuildModel = Callable[..., PreTrainedModel]
FACTS = [
    KnownFact("The capital of France is", "France", "Paris"),
    KnownFact("Anna Berg was born in", "Anna Berg", "Oslo"),
]
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
)


def _texts() -> list[str]:
    return [f"{i} {line} {i * 31 % 97}" for i in range(40) for line in LINES]


def _codes(report: Report, blocks: bool) -> set[str]:
    return {finding.code for finding in report.findings if finding.blocks == blocks}


@pytest.mark.parametrize("family", DENSE)
def test_a_model_of_any_family_that_recalls_nothing(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast, family: str
) -> None:
    model = build_model(family)
    report = examine(model, tokenizer, facts=FACTS, texts=_texts(), samples=1)
    assert not report.usable
    assert _codes(report, blocks=True) == {"recalls_none"}
    assert "recalls none of the 2 facts" in report.findings[0].message
    assert report.trace is not None
    assert report.trace.recalled == 0
    assert report.proposal is None
    assert report.structure is not None
    assert (report.structure.layers, report.structure.width) == (3, 32)
    assert {method.name for method in report.methods} == set(METHODS)
    edited = {i for method in report.methods if method.covariance for i in method.layers}
    assert {entry.layer for entry in report.statistics} == edited
    assert all(1 <= entry.condition <= 1.1e8 for entry in report.statistics)
    assert json.loads(json.dumps(report.as_dict()))["usable"] is False


def test_what_is_not_given_is_noted_and_nothing_blocks(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    report = examine(build_model("gpt2", torch.bfloat16), tokenizer, dtype="float16")
    assert report.usable
    assert _codes(report, blocks=False) == {"no_facts", "no_text"}
    assert report.trace is None
    assert report.statistics == ()
    assert report.structure is not None
    assert report.structure.matrix == "transformer.h.0.mlp.c_proj.weight"
    assert report.structure.transposed
    assert (report.structure.dtype, report.structure.loaded) == ("float16", "bfloat16")
    for method in report.methods:
        assert method.hyperparameters is None
        assert [cost.edits for cost in method.costs] == list(EDITS)
        seconds = [cost.seconds for cost in method.costs]
        assert 0 < seconds[0] <= seconds[1] <= seconds[2]


@pytest.mark.parametrize(
    ("tied", "expected"), [(True, True), (False, False)], ids=["tied", "untied"]
)
def test_tying_is_told(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast, tied: bool, expected: bool
) -> None:
    report = examine(build_model("llama", tie_word_embeddings=tied), tokenizer)
    assert report.structure is not None
    assert report.structure.tied == expected


def test_stages_are_reported_and_the_model_stays_as_it_is(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = build_model("llama")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    seen: set[str] = set()
    examine(
        model, tokenizer, facts=FACTS, texts=_texts(), progress=lambda stage, *_: seen.add(stage)
    )
    assert seen == {"statistics"}  # Nothing was recalled, so nothing was traced.
    assert all(torch.equal(value, before[n]) for n, value in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("family", MIXTURES)
def test_a_mixture_of_experts_is_refused(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast, family: str
) -> None:
    report = examine(build_model(family), tokenizer, facts=FACTS)
    assert _codes(report, blocks=True) == {"unsupported_model"}
    assert "mixture of experts" in report.findings[0].message
    assert report.structure is None


def test_a_quantised_model_is_refused(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = build_model("llama")
    model.config.quantization_config = {"quant_method": "fp8"}
    report = examine(model, tokenizer)
    assert [finding.code for finding in report.findings] == ["unsupported_model"]
    assert "quantised" in report.findings[0].message


def test_a_config_is_enough_to_refuse(build_model: BuildModel) -> None:
    configs = {
        "mixture of experts": build_model("mixtral").config,
        "quantised": LlamaConfig(**FAMILIES["llama"][1], quantization_config={"bits": 4}),
        "no causal language model": EncoderDecoderConfig(),
    }
    for reason, config in configs.items():
        report = refuse(config)
        assert report is not None
        assert not report.usable
        assert reason in report.findings[0].message
    assert refuse(build_model("llama").config) is None


def test_a_tokenizer_without_offsets_blocks(build_model: BuildModel) -> None:
    report = examine(build_model("llama"), ByT5Tokenizer(), facts=FACTS)
    assert [f.code for f in report.findings if f.blocks] == ["unsupported_tokenizer"]


def test_a_chat_template_is_missed_only_if_asked_for(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = build_model("llama")
    report = examine(model, tokenizer, chat=True)
    assert _codes(report, blocks=True) == {"unsupported_tokenizer"}
    assert "chat template" in report.findings[0].message
    templated = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer, bos_token="<s>", chat_template=TEMPLATE
    )
    assert examine(model, templated, chat=True).usable


def test_what_the_tokenizer_puts_in_front_is_told(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = build_model("llama")
    report = examine(model, tokenizer)
    assert report.reading == Reading(("<s>",), chat=False)
    assert "nothing_in_front" not in _codes(report, blocks=False)
    raw = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    raw.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B")
    bare = PreTrainedTokenizerFast(tokenizer_object=raw, chat_template=TEMPLATE)
    report = examine(model, bare)
    assert report.reading == Reading((), chat=True)
    assert "nothing_in_front" in _codes(report, blocks=False)
    assert report.usable


def test_too_little_text_blocks_and_little_text_is_noted(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = build_model("llama")
    report = examine(model, tokenizer, texts=["Anna Berg"])
    assert _codes(report, blocks=True) == {"unusable_statistics"}
    assert report.methods
    report = examine(model, tokenizer, texts=_texts()[:12])
    assert report.usable
    assert "little_text" in _codes(report, blocks=False)


def test_statistics_that_cannot_be_inverted_block(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = build_model("llama")
    for layer in range(3):
        model.get_parameter(f"model.layers.{layer}.mlp.up_proj.weight").data.zero_()
    report = examine(model, tokenizer, texts=_texts())
    assert _codes(report, blocks=True) == {"unusable_statistics"}
    assert report.statistics == ()


def test_a_repaired_inversion_is_noted(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = build_model("llama")
    for layer in range(3):
        model.get_parameter(f"model.layers.{layer}.mlp.up_proj.weight").data[:5] = 0
    report = examine(model, tokenizer, texts=_texts())
    assert report.usable
    assert "ridge" in _codes(report, blocks=False)
    assert all(entry.ridge > 0 for entry in report.statistics)
