"""Edits that are exported answer alike wherever they are loaded: vLLM, Transformers and PEFT."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from tests.engine.offline import Answer, Job, answers
from vllm_edit import factworld
from vllm_edit.cli import main
from weight_patchers import METHODS, Delta, Edit, fingerprint, statistics
from weight_patchers.hyperparameters import find

EDITS = 2
TOKENS = 6


def load(folder: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def deltas(records: Sequence[dict[str, str]]) -> list[Delta]:
    """ROME's delta of each record."""
    base = factworld.checkpoint()
    model, tokenizer = load(base), AutoTokenizer.from_pretrained(base)
    rome = METHODS["rome"]
    hparams = find(rome.hparams, rome.name, model.config)
    known = statistics.collect(
        model,
        tokenizer,
        factworld.corpus(),
        layers=hparams.layers,
        fingerprint=fingerprint(base),
        source="factworld",
    )
    edits = [Edit(r["prompt"], r["subject"], r["target_new"]) for r in records]
    return [rome.compute(model, tokenizer, [edit], hparams, known) for edit in edits]


def patched(found: Sequence[Delta], dtype: torch.dtype) -> PreTrainedModel:
    """The base in float32 with the deltas in it, each changed tensor rounded to `dtype`."""
    model = load(factworld.checkpoint())
    for name in {name for delta in found for name in delta.changes}:
        parts = [delta.changes[name].dense() for delta in found if name in delta.changes]
        weight = model.get_parameter(name)
        weight.data = (weight.data + torch.stack(parts).sum(dim=0)).to(dtype).float()
    return model


def greedy(model: torch.nn.Module, prompts: Sequence[Sequence[int]]) -> list[Answer]:
    """Greedy token ids with their log-probabilities, one prompt at a time."""
    found = []
    for prompt in prompts:
        ids, answer = list(prompt), []
        for _ in range(TOKENS):
            with torch.no_grad():
                logits = model(torch.tensor([ids])).logits[0, -1]
            ids.append(int(logits.argmax()))
            answer.append((ids[-1], float(logits.log_softmax(-1)[ids[-1]])))
        found.append(answer)
    return found


def assert_alike(found: Sequence[Answer], expected: Sequence[Answer]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert [token for token, _ in one] == [token for token, _ in other]
        assert [p for _, p in one] == pytest.approx([p for _, p in other], abs=2e-3)


def test_exported_edits_answer_alike_everywhere(tmp_path: Path) -> None:
    base, merged, adapter = factworld.checkpoint(), tmp_path / "merged", tmp_path / "adapter"
    records = factworld.requests("easyedit", EDITS, seed=7)
    found = deltas(records)
    files = [tmp_path / f"{number}.safetensors" for number in range(EDITS)]
    for delta, file in zip(found, files, strict=True):
        delta.save(file)
    for form, output in (("checkpoint", merged), ("peft", adapter)):
        command = ["export", *map(str, files), "--as", form, "--output", str(output)]
        assert main(command) == 0

    tokenizer = AutoTokenizer.from_pretrained(merged)
    texts = [
        r[field] for r in records for field in ("prompt", "rephrase_prompt", "locality_prompt")
    ]
    prompts = tuple(tuple(tokenizer(text)["input_ids"]) for text in texts)
    jobs = [
        Job(str(base), (None, str(adapter)), prompts, TOKENS),
        Job(str(merged), (None,), prompts, TOKENS),
    ]
    ((plain, adapted), (served,)) = answers(jobs, tmp_path / "answers.json")

    exact, rounded = (greedy(patched(found, d), prompts) for d in (torch.float32, torch.float16))
    told = [tokenizer.decode([token for token, _ in answer]).strip() for answer in exact]
    assert all(text.startswith(r["target_new"]) for text, r in zip(told[::3], records, strict=True))
    assert_alike(plain, greedy(load(base), prompts))
    assert_alike(adapted, exact)
    assert_alike(greedy(PeftModel.from_pretrained(load(base), adapter), prompts), exact)
    assert_alike(served, rounded)
    assert_alike(greedy(load(merged), prompts), rounded)
    assert [[t for t, _ in a] for a in rounded] == [[t for t, _ in a] for a in exact]
