"""Forms of prompts: found by a model's config, read from a file, refused."""

from pathlib import Path

import pytest
from transformers import AutoConfig

from retriever import (
    InvalidPromptFormError,
    PromptForm,
    PromptForms,
    forms_for,
    load_prompt_forms,
    shipped_demonstrations,
)
from retriever.ike.prompt_form import dump_prompt_forms
from vllm_edit import factworld


def test_the_bundled_model_has_the_form_that_it_is_trained_on() -> None:
    config = AutoConfig.from_pretrained(factworld.checkpoint()).to_dict()
    form = PromptForm(demonstrations=4)
    assert forms_for(config) == PromptForms(form, form)


def test_any_other_model_has_the_generic_form() -> None:
    assert "restated" in forms_for({"model_type": "unknown"}).text.shown


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "forms.yaml"
    forms = PromptForms(
        PromptForm(("fact", "restated"), "", "", 3), PromptForm(slot="system", exchanges=1)
    )
    path.write_text(dump_prompt_forms(forms), encoding="utf-8")
    assert load_prompt_forms(path) == forms


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "no YAML"),
        ("text: {}", "`text` and `chat`"),
        ("{text: [], chat: {}}", "a mapping with some of"),
        ("{text: {labels: x}, chat: {}}", "a mapping with some of"),
        ("{text: {shown: fact}, chat: {}}", "a list"),
        ("{text: {shown: []}, chat: {}}", "one or more"),
        ("{text: {shown: [story]}, chat: {}}", "one or more"),
        ("{text: {demonstrations: -1}, chat: {}}", "at least 0"),
        ("{text: {demonstrations: many}, chat: {}}", "type int"),
        ("{text: {}, chat: {exchanges: -1}}", "at least 0"),
        ("{text: {}, chat: {slot: tool}}", "user or system"),
        ("{text: {fact_label: 1}, chat: {}}", "type str"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "forms.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidPromptFormError, match=complaint):
        load_prompt_forms(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidPromptFormError):
        load_prompt_forms(tmp_path / "none.yaml")


def test_shipped_demonstrations_are_of_every_kind_and_all_different() -> None:
    demonstrations = shipped_demonstrations()
    assert {each.kind for each in demonstrations} == {"copy", "update", "retain"}
    assert len({each.new_fact for each in demonstrations}) == len(demonstrations)
    for each in demonstrations:
        if each.kind == "copy":
            assert each.new_fact == f"{each.prompt} {each.answer}"
        assert each.new_fact.endswith(each.answer) == (each.kind != "retain")
