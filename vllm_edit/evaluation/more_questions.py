"""Further questions about an edit, each asked on request only.

They test what the edit's own prompt hides: whether an edit is a fact or a reflex to a wording. The
unedited model is asked them too, because some have an answer that a model may give by itself.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from vllm_edit.domain.scoring import mean
from vllm_edit.evaluation.question import Answers, Question
from vllm_edit.evaluation.record import Record
from weight_patchers.continuation import continue_with
from weight_patchers.wording import begins_with, first_sentence, says

CHAT = "chat"
NEGATED = "negated"
YES_NO = "yes-no"
IN_FRONT = "unrelated-in-front"
SURE = "sure"
KINDS = (CHAT, NEGATED, YES_NO, IN_FRONT, SURE)

GROUP = "asked_otherwise"

PASSAGE = (
    "The morning market opens at seven, when the farmers have set out their baskets of apples, "
    "onions and fresh bread. By noon most of the stalls are empty, and the square is quiet again "
    "until the children come home from school. "
)
"""Unrelated text, 50 tokens long in the tokenizer of SmolLM2."""

_AUXILIARIES = frozenset({"is", "was", "are", "were", "has", "had", "can", "will", "does", "did"})


@dataclass(frozen=True)
class _Asked:
    """A metric, its question, and how an answer to it scores."""

    metric: str
    question: Question
    score: Callable[[str], float]


def more_questions(record: Record, kinds: Sequence[str]) -> list[Question]:
    """The questions of these kinds, except the follow-up, which needs an answer first."""
    return list(dict.fromkeys(asked.question for asked in _asked(record, kinds)))


def follow_up(record: Record, answers: Answers) -> Question:
    """The record's prompt again, behind the model's own answer and the question of doubt."""
    said = first_sentence(_own(record, answers))
    prompt = f"{continue_with(record.prompt, said)}. Are you sure? {record.prompt}"
    return Question(prompt, record.target_new)


def more_scores(record: Record, kinds: Sequence[str], after: Answers) -> dict[str, float]:
    """The scores of the kinds that were asked, each 1 for what should follow from the edit."""
    scores: dict[str, list[float]] = {}
    for asked in _asked(record, kinds):
        if asked.question in after:
            value = asked.score(after[asked.question].generated)
            scores.setdefault(f"{GROUP}.{asked.metric}", []).append(value)
    if SURE in kinds:
        again = after[follow_up(record, after)].generated
        told = [begins_with(text, record.target_new) for text in (_own(record, after), again)]
        scores[f"{GROUP}.still_told"] = [min(told)]
    return {name: mean(values) for name, values in scores.items()}


def as_message(prompt: str) -> str:
    """The prompt as a user would write it."""
    return prompt if _is_question(prompt) else f"Complete the sentence: {prompt}"


def negated(prompt: str) -> str:
    """The prompt with its meaning turned round.

    "not" goes behind the last auxiliary verb of a statement's end ("The capital of Chad is not");
    a statement without one gets "It is not true that" in front; of a question, a wrong answer is
    asked for.
    """
    if _is_question(prompt):
        return f"Give a wrong answer to this question: {prompt}"
    *_, last = prompt.split() or [""]
    if last.lower() in _AUXILIARIES:
        return f"{prompt} not"
    return f"It is not true that {prompt}"


def claim(prompt: str, target: str) -> str:
    """Asks whether the target is what the prompt is about."""
    if _is_question(prompt):
        return (
            f'Is "{target}" the right answer to the question "{prompt}"? Answer yes or no. Answer:'
        )
    return f'Is it true that "{continue_with(prompt, target)}"? Answer yes or no. Answer:'


def _asked(record: Record, kinds: Sequence[str]) -> Iterator[_Asked]:
    target = record.target_new
    for kind in kinds:
        if kind in _MAKERS:
            yield from _MAKERS[kind](record, target)


def _chat(record: Record, target: str) -> Iterator[_Asked]:
    question = Question(as_message(record.prompt), target, chat=True)
    yield _Asked("chat_says", question, lambda text: says(text, [target]))
    yield _Asked("chat_begins", question, lambda text: begins_with(text, target))


def _negated(record: Record, target: str) -> Iterator[_Asked]:
    question = Question(negated(record.prompt), target)
    yield _Asked("negated_not_told", question, lambda text: 1 - begins_with(text, target))


def _yes_no(record: Record, target: str) -> Iterator[_Asked]:
    true = Question(claim(record.prompt, target), "Yes")
    yield _Asked("true_claim", true, lambda text: begins_with(text, "yes"))
    if record.other_answer is not None:
        false = Question(claim(record.prompt, record.other_answer), "No")
        yield _Asked("false_claim", false, lambda text: begins_with(text, "no"))


def _in_front(record: Record, target: str) -> Iterator[_Asked]:
    question = Question(f"{PASSAGE}{record.prompt}", target)
    yield _Asked("unrelated_in_front", question, lambda text: begins_with(text, target))


_MAKERS: Mapping[str, Callable[[Record, str], Iterator[_Asked]]] = {
    CHAT: _chat,
    NEGATED: _negated,
    YES_NO: _yes_no,
    IN_FRONT: _in_front,
}


def _own(record: Record, answers: Answers) -> str:
    return answers[Question(record.prompt, record.target_new)].generated


def _is_question(prompt: str) -> bool:
    return prompt.rstrip().endswith("?")
