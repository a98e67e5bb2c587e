"""Questions in batches, and how answers are compared."""

from transformers import AutoModelForCausalLM, AutoTokenizer

from vllm_edit import factworld
from weight_patchers.tuning.asking import answers


def test_batched_answers_are_the_same_as_single_ones() -> None:
    model = AutoModelForCausalLM.from_pretrained(factworld.checkpoint(), dtype="float32").eval()
    tokenizer = AutoTokenizer.from_pretrained(factworld.checkpoint())
    facts = factworld.build_world().facts[:70:7]
    prompts = [f"{fact.subject} is" for fact in facts] + ["The city of", "It is known that"]
    together = answers(model, tokenizer, prompts, 4)
    assert together == [answers(model, tokenizer, [prompt], 4)[0] for prompt in prompts]
    assert len(set(together)) > 1
