"""The control set: prompts whose answers no edit should change, asked with made probes."""

from pathlib import Path

from vllm_edit import factworld
from vllm_edit.domain.errors import Unavailable
from weight_patchers.json_lines import read_lines

MAX_CONTROLS = 64

PROMPTS = (
    "A week has seven",
    "The sun rises in the",
    "The opposite of hot is",
    "Two plus two equals",
    "A triangle has three",
    "The days of the week are Monday, Tuesday,",
    "The first letter of the alphabet is",
    "Water freezes and turns into",
    "The colour of fresh snow is",
    "One, two, three, four,",
    "The season after winter is",
    "An hour has sixty",
)
"""Each has one short answer: open-ended text may change by chance."""


def controls(file: str, model: Path) -> tuple[str, ...]:
    """The prompts in a file, one a line; without a file, prompts that suit the model.

    Raises Unavailable if the file cannot be used.
    """
    if file:
        return _read(Path(file))
    if model == factworld.checkpoint():
        # This model knows only its own world.
        facts = factworld.requests("easyedit", len(PROMPTS), seed=7)
        return tuple(str(fact["prompt"]) for fact in facts)
    return PROMPTS


def _read(file: Path) -> tuple[str, ...]:
    try:
        lines = [line.strip() for line in read_lines(file)]
    except (OSError, UnicodeDecodeError) as error:
        raise Unavailable(f"--edit-probe-controls cannot be read: {error}.") from error
    prompts = tuple(dict.fromkeys(line for line in lines if line))
    if not 0 < len(prompts) <= MAX_CONTROLS:
        raise Unavailable(
            f"--edit-probe-controls {file} has {len(prompts)} prompts: it needs 1 to "
            f"{MAX_CONTROLS}, one a line."
        )
    return prompts
