"""CaliNET's detector on the bundled model."""

import random

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from vllm_edit import factworld
from vllm_edit.factworld.wordings import BY_NAME, SUBJECT
from weight_patchers.doctor.fact import KnownFact
from weight_patchers.doctor.knowledge import Knowledge, assess

FACT = KnownFact("Oslo is in", "Oslo", "Norway")


def test_a_fact_is_known_from_a_score_of_1() -> None:
    assert Knowledge(FACT, 0.2, 0.1).score == pytest.approx(2.0)
    assert Knowledge(FACT, 0.1, 0.1).known
    assert not Knowledge(FACT, 0.05, 0.1).known
    assert Knowledge(FACT, 0.05, 0.0).known


def test_the_bundled_model_knows_its_facts_and_the_score_is_that_of_the_formula() -> None:
    model = AutoModelForCausalLM.from_pretrained(factworld.checkpoint(), dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(factworld.checkpoint())
    chosen = random.Random(1).sample(factworld.build_world().facts, 12)
    statements = [BY_NAME[fact.relation].statement for fact in chosen]
    facts = [
        KnownFact(text.replace(SUBJECT, fact.subject), fact.subject, fact.object)
        for text, fact in zip(statements, chosen, strict=True)
    ]
    found = assess(model, tokenizer, facts)
    assert sum(one.known for one in found) >= 11
    untrue = [KnownFact(f.prompt, f.subject, "Zzz") for f in facts[:1]]
    assert assess(model, tokenizer, untrue)[0].p < 0.01
    ids = tokenizer(facts[0].prompt)["input_ids"]
    whole = tokenizer(f"{facts[0].prompt} {facts[0].answer}")["input_ids"]
    with torch.no_grad():
        scores = model(input_ids=torch.tensor([whole])).logits[0].log_softmax(-1)
    answer = range(len(ids), len(whole))
    mean = sum(float(scores[i - 1, whole[i]]) for i in answer) / len(answer)
    assert found[0].p == pytest.approx(torch.tensor(mean).exp().item(), rel=1e-3)
    assert found == assess(model, tokenizer, facts)
