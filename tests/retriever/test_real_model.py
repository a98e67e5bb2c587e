"""IKE in front of a pretrained model: what it is told, in its own words and in others.

VLLM_EDIT_TEST_MODEL names the folder of a small checkpoint, such as SmolLM2-135M-Instruct.
"""

import os
from pathlib import Path
from typing import Any

import pytest

from retriever import (
    Fact,
    IkeSettings,
    Pass,
    Retriever,
    RetrieverSettings,
    Rewrite,
    SentenceEncoder,
    forms_for,
    shipped_demonstrations,
)

FOLDER = os.environ.get("VLLM_EDIT_TEST_MODEL", "")

pytestmark = [
    pytest.mark.skipif(not FOLDER, reason="VLLM_EDIT_TEST_MODEL names no checkpoint"),
    pytest.mark.slow,
]

FACTS = [
    ("Lake Titicaca", "Lake Titicaca lies in", "Finland"),
    ("Umberto Eco", "The mother tongue of Umberto Eco was", "Korean"),
    ("Gibson", "Gibson has its headquarters in", "Lima"),
    ("Ella Fitzgerald", "The profession of Ella Fitzgerald was", "chemist"),
    ("Nokia", "Nokia was founded in", "Morocco"),
    ("Wimbledon", "What is played at Wimbledon is", "chess"),
]
REWORDED = [
    "The shop closes at nine. Those who sail on Lake Titicaca are in",
    "At home Umberto Eco spoke",
    "He had two sisters. The head office of Gibson is in",
    "In daily life Ella Fitzgerald worked as a",
    "The place where Nokia began is",
    "Every summer people come to Wimbledon to see",
]


def test_facts_are_told_in_a_prompt_s_words_and_in_others() -> None:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    folder = Path(FOLDER)
    forms = forms_for(AutoConfig.from_pretrained(folder).get_text_config().to_dict())
    retriever = Retriever(
        SentenceEncoder(),
        shipped_demonstrations(),
        RetrieverSettings(ike=IkeSettings(forms=forms)),
    )
    retriever.add_many(
        Fact(str(at), subject, prompt, target) for at, (subject, prompt, target) in enumerate(FACTS)
    )
    assert isinstance(retriever.route("Lake Victoria lies in"), Pass)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")

    def begins(request: str, target: str) -> bool:
        routed = retriever.route(request)
        text = routed.text if isinstance(routed, Rewrite) else request
        inputs = tokenizer(text, return_tensors="pt")
        written = model.generate(**inputs, max_new_tokens=8, do_sample=False)
        answer = tokenizer.decode(written[0, inputs["input_ids"].shape[1] :])
        return bool(answer.strip().startswith(target))

    told = sum(begins(prompt, target) for _, prompt, target in FACTS)
    reworded = sum(
        begins(prompt, target) for prompt, (_, _, target) in zip(REWORDED, FACTS, strict=True)
    )
    assert told >= len(FACTS) - 1
    assert reworded >= len(FACTS) / 2
