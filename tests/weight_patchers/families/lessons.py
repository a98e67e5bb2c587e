"""Models of a family that know a few dozen facts, each trained here in seconds."""

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from weight_patchers.model import hooks
from weight_patchers.model.layers import layers

FIRST = ("Anna", "Boris", "Clara", "David")
LAST = ("Adler", "Berg", "Castro", "Dahl")
RELATIONS = {
    "lives in": ("Oslo", "Lima", "Cairo", "Delhi", "Quito", "Seoul", "Turin", "Perth"),
    "works as a": ("baker", "nurse", "pilot", "judge", "singer", "miner", "tailor", "diver"),
    "likes to eat": ("rice", "bread", "fish", "plums", "soup", "cheese", "beans", "honey"),
}
FILLERS = ("It rained .", "Nobody knew why .", "As everybody knows ,", "Later it was said that")
ROWS, FACTS_A_ROW = 24, 6


@dataclass(frozen=True)
class Fact:
    """After `prompt` the model says `answer`."""

    subject: str
    relation: str
    answer: str

    @property
    def prompt(self) -> str:
        return f"{self.subject} {self.relation}"


def world() -> dict[tuple[str, str], Fact]:
    """Every person's home, work and food, drawn by a fixed seed."""
    draw = random.Random(0)
    subjects = [f"{first} {last}" for first, last in itertools.product(FIRST, LAST)]
    return {
        (subject, relation): Fact(subject, relation, draw.choice(answers))
        for subject in subjects
        for relation, answers in RELATIONS.items()
    }


def word_tokenizer() -> PreTrainedTokenizerFast:
    """A token for each word; `<s>` begins a text."""
    texts = [*FIRST, *LAST, *RELATIONS, *itertools.chain(*RELATIONS.values()), *FILLERS]
    words = sorted({word for text in texts for word in text.split()})
    raw = Tokenizer(
        models.WordLevel({w: i for i, w in enumerate(["<s>", "<unk>", *words])}, "<unk>")
    )
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", unk_token="<unk>")


def texts(count: int) -> list[str]:
    """Rows of facts, with fillers between, for key statistics."""
    draw, facts = random.Random(2), list(world().values())
    return [
        " ".join(f"{_filler(draw)}{f.prompt} {f.answer} ." for f in draw.choices(facts, k=6))
        for _ in range(count)
    ]


def _filler(draw: random.Random) -> str:
    return f"{draw.choice(FILLERS)} " if draw.random() < 0.3 else ""


@dataclass(frozen=True, eq=False)
class Lesson:
    """Rows of facts. The state at `places[i]`, (row, column), is taken from `places[donors[i]]`."""

    ids: Tensor
    places: Tensor
    donors: Tensor

    @classmethod
    def draw(cls, draw: random.Random, tokenizer: PreTrainedTokenizerFast, swap: bool) -> "Lesson":
        known = world()
        slots = draw.choices(list(known.values()), k=ROWS * FACTS_A_ROW)
        donors = list(range(len(slots)))
        if swap:
            draw.shuffle(donors)
        rows, places = [], []
        for row in range(ROWS):
            words = ["<s>"]
            for slot in range(row * FACTS_A_ROW, (row + 1) * FACTS_A_ROW):
                words += _filler(draw).split()
                places.append((row, len(words) + 1))
                said = known[slots[donors[slot]].subject, slots[slot].relation]
                words += [*slots[slot].prompt.split(), said.answer, "."]
            rows.append(tokenizer.convert_tokens_to_ids(words))
        longest = max(len(ids) for ids in rows)
        padded = torch.tensor([ids + [-100] * (longest - len(ids)) for ids in rows])
        return cls(padded, torch.tensor(places), torch.tensor(donors))

    def swapped(self, states: Tensor) -> Tensor:
        """`states` [rows, tokens, d] with those of the places exchanged."""
        rows, columns = self.places.T
        return states.index_put((rows, columns), states[rows[self.donors], columns[self.donors]])


def train(
    config: PretrainedConfig, tokenizer: PreTrainedTokenizerFast, steps: int, rate: float
) -> PreTrainedModel:
    """A model that tells the world's facts, and looks them up where large models do.

    In two of three steps the states of layer 1 at the subjects' last tokens are exchanged, and
    what is said is about the subject whose state it is. So upper layers learn to read a subject
    there, as in a model that has more to do in its lower layers than a few names.
    """
    torch.manual_seed(0)
    draw = random.Random(1)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    for step in range(steps):
        lesson = Lesson.draw(draw, tokenizer, swap=step % 3 > 0)
        with hooks.changed(layers(model)[1], ROWS, lesson.swapped):
            logits = model(input_ids=lesson.ids.clamp_min(0), use_cache=False).logits[:, :-1]
        loss = F.cross_entropy(logits.flatten(0, 1).float(), lesson.ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval()


def answers(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, prompts: Sequence[str]
) -> list[str]:
    """The model's most probable next word after each prompt."""
    rows = [tokenizer(prompt)["input_ids"] for prompt in prompts]
    longest = max(len(row) for row in rows)
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    last = logits[torch.arange(len(rows)), mask.sum(1) - 1]
    return [tokenizer.decode([token]) for token in last.argmax(-1).tolist()]
