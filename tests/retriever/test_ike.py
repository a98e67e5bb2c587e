"""IKE's prompts within a budget, in front of a text and in either slot of a chat."""

import pytest

from retriever import (
    Demonstration,
    Fact,
    InvalidSettingsError,
    PromptForm,
    PromptForms,
    SentenceEncoder,
)
from retriever.ike import DemonstrationStore, Ike, IkeSettings

ADA = Fact("1", "Ada", "The employer of Ada is", "Acme")
BO = Fact("2", "Bo", "The employer of Bo is", "Zeta")
SPORT = Demonstration("Al plays chess.", "The sport of Al is", "chess")
CAPITAL = Demonstration("The capital of Oz is Ur.", "Oz is ruled from", "Ur")
BOTH = "New Fact: The employer of Bo is Zeta.\nNew Fact: The employer of Ada is Acme.\n"


def ike(encoder: SentenceEncoder, **settings: object) -> Ike:
    store = DemonstrationStore([SPORT, CAPITAL], encoder)
    return Ike(store, IkeSettings(**settings), lambda text: len(text.split()))  # type: ignore[arg-type]


def test_the_best_fact_stands_last(encoder: SentenceEncoder) -> None:
    found = ike(encoder, demonstrations=0).in_text([ADA, BO], "Ada works for")
    assert found == (f"{BOTH}Prompt: Ada works for", 2)


def test_fixed_demonstrations_are_the_same_for_every_request(encoder: SentenceEncoder) -> None:
    fixed = ike(encoder, choice="fixed", demonstrations=2)
    texts = [fixed.in_text([fact], "Who?")[0] for fact in (ADA, BO)]
    heads = {text.rpartition("New Fact: ")[0] for text in texts}
    assert len(heads) == 1
    assert heads.pop().startswith("New Fact: Al plays chess.")


@pytest.mark.parametrize("choice", ["fixed", "nearest"])
def test_demonstrations_and_then_facts_give_way_to_the_budget(
    encoder: SentenceEncoder, choice: str
) -> None:
    (whole, one, none, fact, least), used = zip(
        *(
            ike(encoder, choice=choice, demonstrations=2, max_tokens=most).in_text([ADA, BO], "Oz?")
            for most in (60, 31, 18, 10, 1)
        ),
        strict=True,
    )
    assert used == (2, 2, 2, 1, 1)
    assert [text.count("\n\n") for text in (whole, one, none)] == [2, 1, 0]
    assert none == f"{BOTH}Prompt: Oz?"
    assert ("chess" if choice == "fixed" else "Ur") in one
    assert fact == least == "New Fact: The employer of Ada is Acme.\nPrompt: Oz?"


def test_in_the_system_message(encoder: SentenceEncoder) -> None:
    system = ike(encoder, slot="system", demonstrations=0)
    question = [{"role": "user", "content": "Where does Ada work?"}]
    fact_line = "New Fact: The employer of Ada is Acme.\n"
    assert system.in_chat([ADA], question, 0) == (
        ({"role": "system", "content": fact_line}, *question),
        1,
    )
    polite = {"role": "system", "content": "Be polite."}
    found, _ = system.in_chat([ADA], [polite, *question], 1)
    assert found == ({"role": "system", "content": f"{fact_line}\nBe polite."}, *question)


def test_each_form_has_its_number_of_demonstrations(encoder: SentenceEncoder) -> None:
    forms = PromptForms(PromptForm(demonstrations=2), PromptForm(slot="system"))
    text, _ = ike(encoder, forms=forms).in_text([ADA], "Who?")
    assert text.count("\n\n") == 2
    question = {"role": "user", "content": "Who?"}
    assert ike(encoder, forms=forms).in_chat([ADA], [question], 0)[0] == (
        {"role": "system", "content": "New Fact: The employer of Ada is Acme.\n"},
        question,
    )
    asked, _ = ike(encoder, forms=forms, slot="user").in_chat([ADA], [question], 0)
    assert asked[0]["content"] == "New Fact: The employer of Ada is Acme.\nPrompt: Who?"


def test_a_turn_stands_answered_in_front_of_itself(encoder: SentenceEncoder) -> None:
    forms = PromptForms(chat=PromptForm(fact_label="", request_label="", exchanges=2))
    chatty = ike(encoder, forms=forms)
    before = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    question = {"role": "user", "content": "Where does Ada work?"}
    asked = {
        "role": "user",
        "content": "The employer of Ada is Acme.\nWhere does Ada work?",
    }
    answer = {"role": "assistant", "content": "Acme."}
    found, _ = chatty.in_chat([ADA], [*before, question], 2)
    assert found == (*before, asked, answer, asked, answer, asked)

    request = {"role": "user", "content": "Write about Ada."}
    assert len(chatty.in_chat([ADA], [request], 0)[0]) == 1
    assert len(ike(encoder, forms=forms, max_tokens=20).in_chat([ADA], [question], 0)[0]) == 1
    parts = {"role": "user", "content": [{"type": "text", "text": "Where does Ada work?"}]}
    assert len(chatty.in_chat([ADA], [parts], 0)[0]) == 1


def test_a_prompt_stands_answered_in_front_of_itself(encoder: SentenceEncoder) -> None:
    forms = PromptForms(PromptForm(("restated", "fact"), "- ", "> ", exchanges=1))
    text, _ = ike(encoder, forms=forms).in_text([ADA], "It is Monday. Ada drives to")
    facts = "- Ada drives to Acme.\n- The employer of Ada is Acme.\n"
    assert text == f"{facts}> Ada drives to Acme.\n\n{facts}> It is Monday. Ada drives to"


def test_facts_in_front_of_the_demonstrations(encoder: SentenceEncoder) -> None:
    text, _ = ike(encoder, order="facts", choice="fixed", demonstrations=1).in_text([ADA], "Who?")
    assert text == (
        "New Fact: The employer of Ada is Acme.\n\n"
        "New Fact: Al plays chess.\nPrompt: The sport of Al is chess.\n\n"
        "New Fact: The employer of Ada is Acme.\nPrompt: Who?"
    )


def test_restatements_give_way_to_the_budget_last(encoder: SentenceEncoder) -> None:
    forms = PromptForms(PromptForm(("restated", "fact"), "", ""))
    texts = [
        ike(encoder, forms=forms, max_tokens=most).in_text([ADA, BO], "Ada works for")
        for most in (16, 12, 6)
    ]
    assert texts == [
        (
            "The employer of Bo is Zeta.\nAda works for Acme.\nThe employer of Ada is Acme.\n"
            "Ada works for",
            2,
        ),
        ("Ada works for Acme.\nThe employer of Ada is Acme.\nAda works for", 1),
        ("The employer of Ada is Acme.\nAda works for", 1),
    ]


@pytest.mark.parametrize(
    "settings",
    [
        {"order": "any"},
        {"demonstrations": -1},
        {"max_tokens": 0},
        {"choice": "best"},
        {"slot": "tool"},
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(InvalidSettingsError):
        IkeSettings(**settings)  # type: ignore[arg-type]
