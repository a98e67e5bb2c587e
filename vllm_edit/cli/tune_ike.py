"""The part of ``vllm-edit tune`` that chooses the form in which IKE shows facts."""

import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from retriever import Demonstration, Fact
from retriever.continuation import continue_with

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from retriever.ike.form_search import FormScore, TriedFact
    from weight_patchers.common_fact import CommonFact

IKE = "ike"
FILE = "prompt-form.yaml"


def tune_ike(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    facts: "Sequence[TriedFact]",
    demonstrations: Sequence[Demonstration],
    folder: Path,
) -> str:
    """Write the best forms to ``folder``/prompt-form.yaml; returns the table of all."""
    from tqdm import tqdm

    from retriever.ike.form_search import choose_prompt_forms
    from retriever.ike.prompt_form import dump_prompt_forms

    with tqdm(desc=IKE, unit=" trials", disable=None) as bar:

        def report(line: str) -> None:
            bar.set_postfix_str(line, refresh=False)
            bar.update()

        found = choose_prompt_forms(model, tokenizer, facts, demonstrations, report)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_text(dump_prompt_forms(found.forms), encoding="utf-8")
    shown = [_table("prompts", found.text)]
    if found.chat:
        shown.append(_table("chats", found.chat))
    return "\n\n".join(shown)


def made_up_facts(facts: "Sequence[CommonFact]", count: int, seed: int) -> "list[TriedFact]":
    """Facts with the answers of others of their relation; at most ``count``, of all relations.

    Of their other wordings, two are tried, one of them behind a sentence about something else.
    """
    from retriever.ike.form_search import TriedFact

    rng = random.Random(seed)  # noqa: S311
    by_relation: defaultdict[str, list[CommonFact]] = defaultdict(list)
    for fact in facts:
        by_relation[fact.relation].append(fact)
    made: list[TriedFact] = []
    for fact in rng.sample(facts, len(facts)):
        answers = {other.answer for other in by_relation[fact.relation]} - {fact.answer}
        if len(made) == count:
            break
        if not answers or len(fact.prompts) < 2:
            continue
        other = rng.choice(facts)
        unrelated = f"{continue_with(other.prompts[0], other.answer)}."
        prompt, *wordings = fact.prompts
        reworded = (wordings[0], f"{unrelated} {wordings[-1]}")
        target = rng.choice(sorted(answers))
        made.append(TriedFact(Fact(str(len(made)), fact.subject, prompt, target), reworded))
    return made


def _table(title: str, scores: "Sequence[FormScore]") -> str:
    lines = [
        f"| {title}: what is shown | labels | slot | demonstrations | exchanges "
        "| told | reworded | n | characters |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for score in scores:
        form = score.form
        labels = f"{form.fact_label.strip()} {form.request_label.strip()}".strip()
        lines.append(
            f"| {', '.join(form.shown)} | {labels} | {form.slot} | {form.demonstrations} "
            f"| {form.exchanges} | {score.told:.2f} | {score.reworded:.2f} | {score.facts} "
            f"| {score.added:.0f} |"
        )
    return "\n".join(lines)
