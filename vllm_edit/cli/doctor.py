"""``vllm-edit doctor``: says whether and how a model can be edited."""

import argparse
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vllm_edit import factworld
from vllm_edit.cli.shared_arguments import add_device, add_model
from vllm_edit.domain.errors import EditError, InvalidEdit, Unavailable
from vllm_edit.factworld.wordings import BY_NAME, SUBJECT
from weight_patchers.json_lines import read_lines

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from weight_patchers.doctor.diagnosis import Report
    from weight_patchers.doctor.fact import KnownFact

FACTWORLD = "factworld"
FACTWORLD_FACTS = 30

_DESCRIPTION = """\
Load the model in float32, as the editor process does, and report its structure, the hyperparameters
that match it, the layers that recall facts (causal tracing), whether the key statistics of the
layers to edit can be inverted, and what edits cost. Nothing is stored or changed.

Exit status: 0 if the model can be edited; 1 if it cannot, or if a requested check was not possible;
2 if the model could not be examined."""


def add_doctor_parser(commands: Any) -> None:
    """Add the command to the subparsers of ``vllm-edit``."""
    parser = commands.add_parser(
        "doctor",
        help="say whether and how a model can be edited",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model(parser)
    parser.add_argument(
        "--facts",
        metavar="FILE",
        help="JSON lines file (prompt, subject, answer) of facts that the model should know; or "
        "factworld, the default for the bundled model",
    )
    parser.add_argument(
        "--text",
        metavar="SOURCE",
        help="text for key statistics, as for vllm-edit stats; or factworld, the default for the "
        "bundled model",
    )
    parser.add_argument("--chat", action="store_true", help="also check the chat template")
    parser.add_argument(
        "--samples",
        type=_positive,
        default=10,
        help="noise samples per fact (default: %(default)s)",
    )
    parser.add_argument(
        "--most",
        type=_positive,
        default=30,
        help="largest number of facts to trace (default: %(default)s)",
    )
    add_device(parser)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(func=doctor)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def doctor(options: argparse.Namespace) -> int:
    """Examine the model and print the report; the description lists the exit statuses."""
    # PyTorch takes seconds to import, so what needs it is imported late.
    from vllm_edit.cli.doctor_output import print_report
    from weight_patchers.errors import PatcherError

    try:
        report = _examine(options)
    except (EditError, PatcherError) as error:
        print(f"vllm-edit doctor: {error}", file=sys.stderr)
        return 2
    if options.json:
        json.dump(report.as_dict(), sys.stdout, indent=2)
        print()
    else:
        print_report(report)
    return 0 if report.usable else 1


def _examine(options: argparse.Namespace) -> "Report":
    from vllm_edit.cli.doctor_output import StageBars
    from vllm_edit.editor.corpus import corpus_for
    from vllm_edit.engine.checkpoint import resolve
    from vllm_edit.processes.load_model import load
    from weight_patchers.doctor.examination import examine, refuse

    folder = resolve(options.model)
    bundled = folder.resolve() == factworld.checkpoint().resolve()
    facts = _facts(options.facts or (FACTWORLD if bundled else None))
    text = options.text
    source = None
    if text == FACTWORLD or (text is None and bundled):
        source = corpus_for(factworld.checkpoint(), None)
    elif text is not None:
        source = corpus_for(folder, text)
    config = _config(folder)
    refused = refuse(config)
    if refused is not None:
        return refused
    model, tokenizer = load(folder, options.device)
    with StageBars() as progress:
        return examine(
            model,
            tokenizer,
            facts=facts,
            texts=source.texts() if source is not None else None,
            chat=options.chat,
            dtype=str(config.dtype).removeprefix("torch.") if config.dtype else None,
            samples=options.samples,
            most=options.most,
            progress=progress,
        )


def _config(folder: Path) -> "PretrainedConfig":
    from transformers import AutoConfig

    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise Unavailable(f"{folder} holds no model that Transformers knows: {error}") from error
    return config


def _facts(where: str | None) -> list["KnownFact"]:
    from weight_patchers.doctor.fact import KnownFact

    if where is None:
        return []
    if where == FACTWORLD:
        world = factworld.build_world()
        chosen = random.Random("doctor").sample(world.facts, FACTWORLD_FACTS)  # noqa: S311
        return [
            KnownFact(
                BY_NAME[f.relation].statement.replace(SUBJECT, f.subject), f.subject, f.object
            )
            for f in chosen
        ]
    return list(_read_facts(Path(where)))


def _read_facts(path: Path) -> Iterator["KnownFact"]:
    from weight_patchers.doctor.fact import KnownFact

    try:
        lines = read_lines(path)
    except (OSError, UnicodeDecodeError) as error:
        raise Unavailable(f"The facts in {path} cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
            fact = KnownFact(*(item[name] for name in ("prompt", "subject", "answer")))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidEdit(
                f"Line {number} of {path} is no fact ({error}): give JSON with the texts prompt, "
                "subject and answer."
            ) from error
        yield fact
