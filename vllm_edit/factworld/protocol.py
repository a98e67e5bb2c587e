"""The prompt formats the bundled model is trained on: IKE, MeLLo and chat."""

from vllm_edit.factworld.wordings import SUBJECT

NEW_FACT = "New Fact: "
PROMPT = "Prompt: "

# MeLLo: the model writes a text after each label. Generation stops at `RETRIEVED`, where the
# retrieved statement and a newline are inserted.
QUESTION = "Question: "
SUBQUESTION = "Subquestion: "
TENTATIVE = "Tentative answer: "
RETRIEVED = "Retrieved fact: "
CONTRADICTION = "Contradiction: "
INTERMEDIATE = "Intermediate answer: "
FINAL = "Final answer: "

BOS = "<s>"
EOS = "</s>"
PAD = "<pad>"
SYSTEM = "<|system|>"
USER = "<|user|>"
ASSISTANT = "<|assistant|>"
SPECIAL_TOKENS = (PAD, BOS, EOS, SYSTEM, USER, ASSISTANT)

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + (message['content'] | trim) + eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "Answer the question.",
    "You are a helpful assistant who knows many facts.",
)


def fill(wording: str, subject: str) -> str:
    """The wording about this subject."""
    return wording.replace(SUBJECT, subject)


def statement(prompt: str, answer: str) -> str:
    """A prompt with its answer and a full stop."""
    return f"{prompt} {answer}."
