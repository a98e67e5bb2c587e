"""Sentences that say how the figures of a result were measured."""

from collections.abc import Mapping
from typing import Any

from vllm_edit.evaluation.plan import KNOWN, WRONG


def notes(result: Mapping[str, Any]) -> list[str]:
    """How the figures were measured."""
    plan, machine = result["plan"], result["machine"]
    which = "the first" if plan.get("in_order") else f"seed {plan['seed']}"
    only = {
        None: "",
        WRONG: " Only records whose target the unedited model does not tell.",
        KNOWN: " Only records whose true answer the unedited model tells.",
    }[plan.get("only")]
    sentences = [
        f"Data {plan['source']}, {plan['edits']} records, {which}; "
        f"{result['left_out']} records that cannot be edited were left out.{only}",
        *_how_it_was_asked(result),
        "Percentages are generated / teacher-forced: whole greedy answers that match, and the "
        "share of target tokens that are greedy after the target tokens before them. The second "
        "is usually higher.",
        "Locality is agreement with the unedited model, as the mean over kinds of probes. Probes "
        "that another edit in effect contradicts are left out.",
        f"KL is KL(unedited || edited) of the next token on {result['controls']} control prompts, "
        "in nats. It uses the 20 likeliest tokens and one class for the rest: a lower bound.",
        "s/edit is the median time from the request until the edit is active. Memory is the peak "
        "resident memory of all processes of the server; shared pages count in each process.",
        "Client machine: " + ", ".join(f"{name} {value}" for name, value in machine.items()),
    ]
    if any("device_peak_bytes" in costs for costs in result["costs"].values()):
        sentences.append(
            "Device memory is all memory in use on the GPUs, including the KV cache that the "
            "engine reserves and other programs."
        )
    failed = sum(row["failed"] for row in result["rows"])
    if failed:
        sentences.append(f"{failed} edits failed. They were judged as served, without effect.")
    return sentences


def _how_it_was_asked(result: Mapping[str, Any]) -> list[str]:
    """Sentences about the conditions; none for a result from before they were recorded."""
    plan = result["plan"]
    if "at_once" not in plan:
        return []
    alone = "alone, one after another"
    together = f"{plan['at_once']} at a time, so that answers may depend on each other"
    sentences = [
        f"Questions were asked {alone if plan['at_once'] == 1 else together}; answers have at most "
        f"{plan['tokens']} tokens.",
        "Told: the answer begins with the target, word by word. Run-on: of the told answers, those "
        "whose first line or sentence goes on behind the target. NS and PS are CounterFact's "
        "comparisons of probabilities, on neighbours and on other wordings.",
        "In brackets behind what is kept stands the noise floor: the unedited model, asked twice, "
        "against itself. Leak: neighbours answered with the new target that were not before.",
    ]
    for method, count in result.get("collapse", {}).items():
        when = "at no measured length" if count is None else f"at {count} edits"
        sentences.append(f"{method} in a row: fewer than {plan['bound']:.0%} told {when}.")
    return sentences
