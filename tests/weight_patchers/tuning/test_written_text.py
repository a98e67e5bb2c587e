"""The text that a model writes about facts."""

from itertools import islice
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

from vllm_edit import factworld
from vllm_edit.cli.tune import _facts
from weight_patchers.tuning.tune import _written
from weight_patchers.tuning.written_text import written_text


def test_a_model_writes_as_much_as_its_statistics_need(tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(factworld.checkpoint(), dtype="float32").eval()
    tokenizer = AutoTokenizer.from_pretrained(factworld.checkpoint())
    facts = _facts(None, bundled=True)
    source = _written(model, tokenizer, facts, [1], tmp_path, 0)
    paragraphs = list(source.texts())
    tokens = sum(len(tokenizer(paragraph)["input_ids"]) for paragraph in paragraphs)
    assert tokens >= 10 * 448
    for fact, paragraph in zip(facts, paragraphs, strict=False):
        start = f"{fact.prompts[0]} {fact.answer}."
        assert paragraph.startswith(f"{start} ")
        assert paragraph.count(start) == 1
    again = written_text(model, tokenizer, facts, 1, 0)
    assert list(islice(again, 5)) == paragraphs[:5]
    written = (tmp_path / "text.txt").stat().st_mtime_ns
    assert _written(model, tokenizer, facts, [1], tmp_path, 0).name == source.name
    assert (tmp_path / "text.txt").stat().st_mtime_ns == written
