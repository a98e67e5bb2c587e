"""The bundled checkpoint: its files, and its answers to every required kind of prompt."""

import json

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from tests.factworld.skills import Examiner, Generate, Item, run_mello, score
from vllm_edit import factworld
from vllm_edit.factworld.protocol import fill, statement
from vllm_edit.factworld.tokenizer import train_tokenizer
from vllm_edit.factworld.wordings import BY_NAME
from vllm_edit.factworld.world import World, WorldFact

COUNT = 200


@pytest.fixture
def examiner(world: World) -> Examiner:
    return Examiner(world, 0)


def test_it_is_a_small_llama(model: PreTrainedModel) -> None:
    assert isinstance(model, LlamaForCausalLM)
    files = list(factworld.checkpoint().iterdir())
    assert {"model.safetensors", "tokenizer.json", "config.json"} <= {f.name for f in files}
    assert sum(file.stat().st_size for file in files) <= 8_000_000
    assert model.config.max_position_embeddings >= 512


def test_its_tokenizer_is_that_of_the_world(world: World) -> None:
    stored = json.loads((factworld.checkpoint() / "tokenizer.json").read_text())
    made = json.loads(train_tokenizer(world).to_str())
    assert stored["model"]["vocab"] == made["model"]["vocab"]
    assert stored["post_processor"] == made["post_processor"]


def test_text_survives_the_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    for text in ("Where was Zoë born?\n\nNew Fact: x", "a  b\tc", "日本"):
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids, skip_special_tokens=True) == f" {text}"


def test_newlines_do_not_change_the_tokens_of_lines(tokenizer: PreTrainedTokenizerBase) -> None:
    first = tokenizer("New Fact: a.\n")["input_ids"]
    both = tokenizer("New Fact: a.\nPrompt: b")["input_ids"]
    assert both[: len(first)] == first


def test_recall_in_trained_wordings(examiner: Examiner, generate: Generate) -> None:
    assert score(examiner.recall(2 * COUNT, held_out=False), generate) >= 0.99


def test_recall_in_held_out_wordings(examiner: Examiner, generate: Generate) -> None:
    assert score(examiner.recall(2 * COUNT, held_out=True), generate) >= 0.97


def test_given_fact_is_used_in_other_wordings(examiner: Examiner, generate: Generate) -> None:
    assert score(examiner.using(COUNT), generate) >= 0.95


def test_given_fact_used_about_unseen_subjects(examiner: Examiner, generate: Generate) -> None:
    assert score(examiner.using(COUNT, unseen=True), generate) >= 0.95


def test_given_fact_used_among_several(examiner: Examiner, generate: Generate) -> None:
    assert score(examiner.using(COUNT, facts=3), generate) >= 0.9


def test_given_fact_used_after_demonstrations(examiner: Examiner, generate: Generate) -> None:
    assert score(examiner.using(COUNT, demonstrations=4), generate) >= 0.9


@pytest.mark.parametrize("same_subject", [False, True])
def test_recall_is_kept_after_an_unrelated_given_fact(
    examiner: Examiner, generate: Generate, same_subject: bool
) -> None:
    assert score(examiner.keeping(COUNT, same_subject), generate) >= 0.9


@pytest.mark.parametrize("same_subject", [False, True])
def test_own_memory_kept_after_demonstrations(
    examiner: Examiner, generate: Generate, same_subject: bool
) -> None:
    assert score(examiner.keeping(COUNT, same_subject, demonstrations=4), generate) >= 0.85


def test_two_hop_questions_by_mello(examiner: Examiner, generate: Generate) -> None:
    items = examiner.two_hops(COUNT)
    answers = run_mello(items, generate)
    right = sum(answer == item.answer for answer, item in zip(answers, items, strict=True))
    assert right / len(items) >= 0.9


def test_chat(
    examiner: Examiner,
    world: World,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    """Recall, a given fact and a second turn. Each answer must also end its turn."""

    def question(fact: WorldFact) -> str:
        return fill(BY_NAME[fact.relation].question, fact.subject)

    chats = []
    for fact in examiner.rng.sample(world.facts, 20):
        new, earlier = examiner.counterfactual(fact), examiner.rng.choice(world.facts)
        first = [("user", question(earlier)), ("assistant", f"{earlier.object}.")]
        chats += [
            ([("user", question(fact))], fact),
            ([("user", f"{examiner.given([new])}Prompt: {question(fact)}")], new),
            ([*first, ("user", question(fact))], fact),
        ]
    right = 0
    for turns, fact in chats:
        ids = tokenizer.apply_chat_template(
            [{"role": role, "content": content} for role, content in turns],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=False,
        )
        with torch.no_grad():
            output = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8)
        expected = tokenizer(f"{fact.object}.", add_special_tokens=False)["input_ids"]
        right += output[0, ids.shape[1] :].tolist() == [*expected, tokenizer.eos_token_id]
    assert right / len(chats) >= 0.9


def test_questions_after_much_other_text(
    examiner: Examiner, world: World, generate: Generate, tokenizer: PreTrainedTokenizerBase
) -> None:
    items = []
    for fact in examiner.rng.sample(world.facts, 60):
        before = " ".join(
            statement(fill(BY_NAME[other.relation].statement, other.subject), other.object)
            for other in examiner.rng.sample(world.facts, 24)
            if other.subject != fact.subject
        )
        prompt = f"{before} {fill(BY_NAME[fact.relation].question, fact.subject)}"
        items.append(Item(prompt, fact.object))
    assert min(len(tokenizer(item.prompt)["input_ids"]) for item in items) > 128
    outputs = generate([item.prompt for item in items], 6)
    right = sum(
        output.strip().startswith(f"{item.answer}.")
        for output, item in zip(outputs, items, strict=True)
    )
    assert right / len(items) >= 0.95
