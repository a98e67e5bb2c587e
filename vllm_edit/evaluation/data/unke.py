"""UnKEBench: facts that are paragraphs (Deng et al. 2025)."""

from vllm_edit.evaluation.data.fields import Fields
from vllm_edit.evaluation.record import PARTS, Probe, Record


def unke(fields: Fields, number: int) -> Record | None:
    """The subject, which the file does not give, is the longest name in question and answer.

    None if there is no such name: the record cannot be edited.
    """
    question, answer = fields.text("question"), fields.text("answer")
    subject = _longest_name(question, answer)
    if subject is None:
        return None
    asked, answers = fields.optional("sub_question"), fields.optional("sub_answer")
    if len(asked) != len(answers):
        raise fields.wrong("sub_answer", f"has {len(answers)} answers to {len(asked)} questions")
    parts = tuple(
        Probe((prompt,), (answer.rstrip("."),))
        for prompt, answer in zip(asked, answers, strict=True)
    )
    return Record(
        case=fields.case(number),
        prompt=question,
        subject=subject,
        target_new=answer,
        rephrasings=fields.optional("para_question"),
        portability={PARTS: parts} if parts else {},
    )


def _longest_name(question: str, answer: str) -> str | None:
    """The longest run of words of the question that begins with a capital and is in the answer.

    The question's first word, which always has a capital, begins no name.
    """
    words = question.rstrip("?").split()
    names = [
        name
        for start, word in enumerate(words)
        if start and word[:1].isupper()
        for end in range(len(words), start, -1)
        if (name := _bare(" ".join(words[start:end]))) and name in answer
    ]
    return max(names, key=len, default=None)


def _bare(name: str) -> str:
    return name.rstrip(",.;:").removesuffix("'s").removesuffix("\u2019s")
