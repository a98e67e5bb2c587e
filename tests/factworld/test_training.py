"""The training code: what it computes and what it writes."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from vllm_edit.factworld.documents import BACKGROUND, Document, Span
from vllm_edit.factworld.export import write_checkpoint
from vllm_edit.factworld.lessons import Lessons
from vllm_edit.factworld.model import FactModel, ModelShape, Noise
from vllm_edit.factworld.optimizer import orthogonal
from vllm_edit.factworld.perturbation import edit
from vllm_edit.factworld.protocol import BOS, EOS
from vllm_edit.factworld.recipe import TrainingRecipe
from vllm_edit.factworld.rows import AFTER, LAST, NAME, Pieces, batch
from vllm_edit.factworld.tokenizer import train_tokenizer
from vllm_edit.factworld.train import train
from vllm_edit.factworld.world import World
from vllm_edit.factworld.writer import Writer

SMALL = TrainingRecipe(
    steps=2,
    recall_rows=2,
    given_rows=2,
    edited_rows=1,
    demonstration_rows=1,
    mello_rows=1,
    chat_rows=1,
    copying_until=0.0,
    long_from=0.0,
    edit_from=0.0,
)


@pytest.fixture(scope="module")
def bpe(world: World) -> Tokenizer:
    return train_tokenizer(world)


@pytest.fixture
def writer(world: World) -> Writer:
    return Writer(world, random.Random(0))


def no_noise(width: int) -> list[Noise]:
    none = torch.zeros(0, dtype=torch.long)
    return [Noise(none, none, torch.zeros(0, width))] * 3


def test_pieces_join_to_the_tokens_of_the_text(bpe: Tokenizer, writer: Writer) -> None:
    pieces = Pieces(bpe)
    documents = [writer.given(4), writer.demonstrated(3, 4), Document([], [writer.mello()])]
    for document in documents:
        for spans in document.branches:
            whole = [span for span in [*document.prefix, *spans] if span.text not in (BOS, EOS)]
            text = "".join(span.text for span in whole).removeprefix(" ")
            joined = [token for span in whole for token in pieces(span.text)]
            assert joined == bpe.encode(text, add_special_tokens=False).ids


def test_plain_rows_compute_what_transformers_computes(
    bpe: Tokenizer, writer: Writer, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = FactModel(ModelShape(bpe.get_vocab_size()))
    state = {name: tensor.half().float() for name, tensor in model.state_dict().items()}
    model.load_state_dict(state)
    write_checkpoint(tmp_path / "checkpoint", model.state_dict(), model.shape, bpe)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint", dtype=torch.float32)
    row = batch([writer.running(8)], Pieces(bpe), random.Random(0), 128)
    used = int((row.branch[0] >= 0).sum())
    row.positions[0, :used] = torch.arange(used)
    hidden, _ = model(row, no_noise(model.shape.width), torch.arange(used))
    ours = hidden @ model.model.embed_tokens.weight.T
    with torch.no_grad():
        expected = theirs(row.ids[:, :used]).logits[0]
    torch.testing.assert_close(ours.detach(), expected, atol=1e-4, rtol=1e-4)


def test_branches_see_the_prefix_and_themselves(bpe: Tokenizer) -> None:
    document = Document([Span(BOS)], [[Span(" Where was")], [Span(" Where was")]], localise=False)
    row = batch([document], Pieces(bpe), random.Random(0), 6)
    assert row.branch[0].tolist() == [0, 1, 1, 2, 2, -1]
    _, late = row.masks
    assert late[0, 0, 4].tolist() == [True, False, False, True, True, False]
    assert row.positions[0, 1] == row.positions[0, 3]


def test_restricted_tokens_read_the_subject_late_and_at_its_last_token(
    bpe: Tokenizer, world: World, writer: Writer
) -> None:
    documents = [writer.closed([fact]) for fact in world.of("birthplace")[:20]]
    row = batch(documents, Pieces(bpe), random.Random(0), 24)
    early, late = (mask[:, 0] for mask in row.masks)
    for index in range(len(documents)):
        after = row.role[index] == AFTER
        name, last = row.role[index] == NAME, row.role[index] == LAST
        if not row.late[index, after][0]:
            continue
        assert not early[index][after][:, name | last].any()
        assert not late[index][after][:, name].any()
        assert late[index][after][:, last].all()


def test_weights_count_answers_fully(bpe: Tokenizer, world: World, writer: Writer) -> None:
    fact = world.facts[0]
    row = batch([writer.closed([fact])], Pieces(bpe), random.Random(0), 32)
    answer_ids = bpe.encode(f"{fact.object}.", add_special_tokens=False).ids
    assert row.ids[row.weight == 1.0].tolist() == [*answer_ids, bpe.token_to_id(EOS)]
    assert sorted(row.weight.unique().tolist()) == pytest.approx([0.0, BACKGROUND, 1.0])


def test_an_edit_raises_the_new_answer(bpe: Tokenizer, writer: Writer) -> None:
    torch.manual_seed(0)
    model = FactModel(ModelShape(bpe.get_vocab_size()))
    rows = batch([writer.edited(6) for _ in range(4)], Pieces(bpe), random.Random(0), 96)
    head = rows.head(20)
    plain, _ = model.loss(head, no_noise(model.shape.width))
    edited, _ = model.loss(rows.head(96), edit(model, rows, 1, torch.full((4, 1), 2.0)))
    assert edited < plain


def test_orthogonal() -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonal(torch.randn(3, 16, 40)))
    assert values.min() > 0.5
    assert values.max() < 1.5


def test_lessons_are_deterministic(world: World, bpe: Tokenizer) -> None:
    first, second = (Lessons(world, bpe, SMALL).batches(0, 0.5) for _ in range(2))
    assert len(first) == len(second) > 1
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.ids, other.ids)
        assert torch.equal(one.weight, other.weight)


def test_training_writes_a_checkpoint_and_resumes_from_it(tmp_path: Path) -> None:
    output, state = tmp_path / "checkpoint", tmp_path / "state"
    train(SMALL, output, state)
    first = (output / "model.safetensors").read_bytes()
    tokenizer = AutoTokenizer.from_pretrained(output)
    model = AutoModelForCausalLM.from_pretrained(output)
    assert len(tokenizer) == model.config.vocab_size
    train(replace(SMALL, steps=3), output, state, resume=True)
    assert (output / "model.safetensors").read_bytes() != first
    assert torch.load(state, weights_only=True)["step"] == 3
