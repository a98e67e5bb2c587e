"""Chooses the form in which a model uses facts, judged by its greedy answers.

Needs torch and Transformers, not vLLM.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from retriever.encoder import SentenceEncoder
from retriever.fact import Fact
from retriever.ike.demonstrations import Demonstration, DemonstrationStore
from retriever.ike.editor import Ike
from retriever.ike.prompt_form import Part, PromptForm, PromptForms
from retriever.ike.settings import IkeSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_BATCH = 8
_MORE_TOKENS = 4
"""Written beyond the length of the target, which may be split in another way."""
_KEPT = 3
"""Forms that are tried on all facts, after each was tried on some."""

_SHOWN: tuple[tuple[Part, ...], ...] = (
    ("fact",),
    ("fact", "restated"),
    ("restated", "fact"),
    ("restated", "fact", "restated"),
)
_LABELS = (("New Fact: ", "Prompt: "), ("", ""))
_DEMONSTRATIONS = 4

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class TriedFact:
    """A fact that the model does not tell, and other prompts that its answer must follow."""

    fact: Fact
    reworded: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FormScore:
    """How often answers begin with the target: to the fact's prompt, and to other wordings."""

    form: PromptForm
    told: float
    reworded: float
    added: float
    """Characters put in front of a request, on average."""
    facts: int
    """Facts it was tried on."""


@dataclass(frozen=True, slots=True)
class FormSearch:
    """Scores, the best first; ``chat`` is empty for a model without a chat template."""

    text: tuple[FormScore, ...]
    chat: tuple[FormScore, ...]

    @property
    def forms(self) -> PromptForms:
        """The best forms. Without a chat template a chat gets the form of prompts."""
        return PromptForms(self.text[0].form, (self.chat or self.text)[0].form)


def form_candidates(chat: bool) -> tuple[PromptForm, ...]:
    """Every form that is tried."""
    plain = tuple(PromptForm(shown, *labels) for shown in _SHOWN for labels in _LABELS)
    answered = [replace(form, exchanges=count) for form in plain for count in (1, 2)]
    if chat:
        in_system = [replace(form, slot="system", request_label="") for form in plain[::2]]
        return (*plain, *answered, *in_system)
    demonstrated = [replace(form, demonstrations=_DEMONSTRATIONS) for form in plain]
    return (*plain, *answered, *demonstrated)


def choose_prompt_forms(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    facts: Sequence[TriedFact],
    demonstrations: Sequence[Demonstration],
    report: Report = lambda _: None,
    text_forms: Sequence[PromptForm] | None = None,
    chat_forms: Sequence[PromptForm] | None = None,
) -> FormSearch:
    """Try forms on a third of the facts, and the best few of them on all.

    The forms are those of `form_candidates` unless others are given. `report` gets a line for each
    trial.
    """
    asker = _Asker(model, tokenizer, tuple(demonstrations))
    text = _search(
        facts,
        form_candidates(False) if text_forms is None else text_forms,
        lambda form, some: asker.score(form, some, chat=False),
        report,
    )
    if not tokenizer.chat_template:
        return FormSearch(text, ())
    chat = _search(
        facts,
        form_candidates(True) if chat_forms is None else chat_forms,
        lambda form, some: asker.score(form, some, chat=True),
        report,
    )
    return FormSearch(text, chat)


def _search(
    facts: Sequence[TriedFact],
    forms: Sequence[PromptForm],
    score: Callable[[PromptForm, Sequence[TriedFact]], FormScore],
    report: Report,
) -> tuple[FormScore, ...]:
    def tried(form: PromptForm, some: Sequence[TriedFact]) -> FormScore:
        found = score(form, some)
        report(f"{_described(form)}: told {found.told:.2f}, reworded {found.reworded:.2f}")
        return found

    some = facts[: max(1, len(facts) // 3)]
    first = sorted((tried(form, some) for form in forms), key=_rank)
    best = sorted((tried(each.form, facts) for each in first[:_KEPT]), key=_rank)
    return (*best, *first[_KEPT:])


def _rank(score: FormScore) -> tuple[float, float]:
    return -(score.told + score.reworded), score.added


def _described(form: PromptForm) -> str:
    labels = f"{form.fact_label.strip()}/{form.request_label.strip()}".strip("/") or "no labels"
    counts = f"{form.demonstrations} demonstrations, {form.exchanges} exchanges"
    return f"{' '.join(form.shown)}, {labels}, {form.slot}, {counts}"


@dataclass(frozen=True)
class _Asker:
    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    demonstrations: tuple[Demonstration, ...]

    def score(self, form: PromptForm, facts: Sequence[TriedFact], chat: bool) -> FormScore:
        # Fixed demonstrations need no encoder.
        settings = IkeSettings(forms=PromptForms(form, form), choice="fixed")
        ike = Ike(DemonstrationStore(self.demonstrations, SentenceEncoder()), settings)
        asked = [
            (each.fact, prompt) for each in facts for prompt in (each.fact.prompt, *each.reworded)
        ]
        own = [prompt == fact.prompt for fact, prompt in asked]
        prompts = [self._tokens(ike, fact, prompt, chat) for fact, prompt in asked]
        added = [len(ike.in_text([fact], prompt)[0]) - len(prompt) for fact, prompt in asked]
        right = self._right(prompts, [fact.target_new for fact, _ in asked])
        return FormScore(
            form,
            _mean([hit for hit, first in zip(right, own, strict=True) if first]),
            _mean([hit for hit, first in zip(right, own, strict=True) if not first]),
            _mean(added),
            len(facts),
        )

    def _tokens(self, ike: Ike, fact: Fact, prompt: str, chat: bool) -> list[int]:
        tokenizer: Any = self.tokenizer
        if not chat:
            return list(tokenizer(ike.in_text([fact], prompt)[0])["input_ids"])
        messages, _ = ike.in_chat([fact], [{"role": "user", "content": prompt}], 0)
        ids = tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=True, tokenize=True, return_dict=False
        )
        return list(ids)

    def _right(self, prompts: Sequence[list[int]], targets: Sequence[str]) -> list[bool]:
        """Whether the greedy answer to each prompt begins with its target."""
        import torch

        tokenizer: Any = self.tokenizer
        model: Any = self.model
        pad = tokenizer.pad_token_id
        pad = tokenizer.eos_token_id if pad is None else pad
        right = [False] * len(prompts)
        order = sorted(range(len(prompts)), key=lambda at: len(prompts[at]))
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            width = max(len(prompts[at]) for at in batch)
            rows = [[pad] * (width - len(prompts[at])) + prompts[at] for at in batch]
            mask = [[0] * (width - len(prompts[at])) + [1] * len(prompts[at]) for at in batch]
            longest = max(len(tokenizer(targets[at])["input_ids"]) for at in batch)
            with torch.inference_mode():
                written = model.generate(
                    input_ids=torch.tensor(rows, device=model.device),
                    attention_mask=torch.tensor(mask, device=model.device),
                    max_new_tokens=longest + _MORE_TOKENS,
                    do_sample=False,
                    pad_token_id=pad,
                )
            for at, row in zip(batch, written[:, width:], strict=True):
                answer = tokenizer.decode(row, skip_special_tokens=True)
                right[at] = answer.strip().startswith(targets[at])
        return right


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
