"""MemPrompt: feedback recalled for questions like the one that it was given on."""

import pytest

from retriever import (
    DuplicateFactError,
    Feedback,
    FeedbackMemory,
    RetrieverSettings,
    SentenceEncoder,
    UnknownFactError,
)
from retriever.memprompt import clarified
from retriever.parsed_request import ParsedRequest

CAPITAL = Feedback("edit-1", "What is the capital of ?", "Name the city and nothing else.")
LIKE = "What is the capital of Peru?"
UNLIKE = "What is the currency of France?"


@pytest.fixture
def memory(encoder: SentenceEncoder) -> FeedbackMemory:
    found = FeedbackMemory(encoder)
    found.add_many([CAPITAL])
    return found


def recalled(memory: FeedbackMemory, question: str, user: str | None = None) -> list[str]:
    return [feedback.id for feedback, _ in memory.recall(question, user)]


def test_feedback_is_recalled_for_questions_like_it(memory: FeedbackMemory) -> None:
    assert recalled(memory, LIKE) == [CAPITAL.id]
    assert recalled(memory, UNLIKE) == []
    assert recalled(memory, " ") == []
    assert recalled(memory.empty_copy(), LIKE) == []


def test_a_user_s_feedback_is_for_that_user(memory: FeedbackMemory) -> None:
    memory.remove(CAPITAL.id)
    memory.add_many([Feedback("edit-2", CAPITAL.question, "Mine.", "ann")])
    assert recalled(memory, LIKE, "ann") == ["edit-2"]
    assert recalled(memory, LIKE, "ben") == recalled(memory, LIKE) == []


def test_the_newest_feedback_on_a_question_wins_until_it_is_removed(memory: FeedbackMemory) -> None:
    memory.add_many([Feedback("edit-2", CAPITAL.question, "Newer.")])
    assert recalled(memory, LIKE) == ["edit-2"]
    memory.remove("edit-2")
    assert recalled(memory, LIKE) == [CAPITAL.id]
    memory.remove(CAPITAL.id)
    assert recalled(memory, LIKE) == []
    with pytest.raises(UnknownFactError):
        memory.remove(CAPITAL.id)


def test_an_id_is_stored_once(memory: FeedbackMemory) -> None:
    with pytest.raises(DuplicateFactError):
        memory.add_many([Feedback("edit-2", UNLIKE, "x"), CAPITAL])
    assert recalled(memory, UNLIKE) == []
    assert len(memory) == 1


def test_feedback_stands_in_front_of_the_question(memory: FeedbackMemory) -> None:
    line = f"Clarification: {CAPITAL.text}\n"
    found = memory.recall(LIKE)
    assert clarified(found, LIKE).text == line + LIKE
    chat = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": LIKE}]
    assert ParsedRequest(chat, RetrieverSettings()).question == LIKE
    changed = clarified(found, chat)
    assert changed.messages == (chat[0], {"role": "user", "content": line + LIKE})
    assert changed.method == "memprompt"
    assert ParsedRequest([], RetrieverSettings()).question == ""
