"""The choice of a form by the answers of the bundled model."""

from transformers import AutoModelForCausalLM, AutoTokenizer

from retriever import Fact, PromptForm
from retriever.ike.form_search import TriedFact, choose_prompt_forms, form_candidates
from tests.factworld.editing import cases
from vllm_edit import factworld

TRAINED = PromptForm()
UNKNOWN = PromptForm(fact_label="", request_label="")


def test_the_form_that_the_model_is_trained_on_is_found() -> None:
    folder = factworld.checkpoint()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    facts = [
        TriedFact(
            Fact(str(at), case.edit.subject, case.edit.prompt, case.edit.target_new),
            tuple(case.wordings[:1]),
        )
        for at, case in enumerate(cases(factworld.build_world(), 12))
    ]
    lines: list[str] = []
    found = choose_prompt_forms(
        model,
        tokenizer,
        facts,
        factworld.demonstrations(),
        lines.append,
        text_forms=(UNKNOWN, TRAINED),
        chat_forms=(TRAINED,),
    )
    best = found.text[0]
    assert (found.forms.text, best.facts) == (TRAINED, 12)
    assert best.told >= 0.9
    assert best.reworded >= 0.75
    assert best.added > 0
    assert bool(found.chat) == bool(tokenizer.chat_template)
    assert len(lines) >= 4


def test_forms_that_are_tried_are_all_different() -> None:
    for chat in (False, True):
        forms = form_candidates(chat)
        assert len(set(forms)) == len(forms)
    assert {form.slot for form in form_candidates(True)} == {"user", "system"}
