"""``vllm-edit tune``: finds hyperparameters for a model."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vllm_edit import factworld
from vllm_edit.cli.run_command import run_command
from vllm_edit.cli.shared_arguments import add_device, add_model
from vllm_edit.cli.tune_ike import FILE, IKE, made_up_facts, tune_ike

if TYPE_CHECKING:
    from weight_patchers.common_fact import CommonFact
    from weight_patchers.statistics.texts import Source
    from weight_patchers.tuning.trial import Trial

FACTWORLD = "factworld"

_DESCRIPTION = """\
Search hyperparameters of weight methods for a model: layers, steps, contexts, clamp, what is kept,
the weight of the key statistics. Counterfactual edits are made of facts that the model tells, and
judged by its greedy answers in float32: the edit's own prompt (bare, and as a user's message where
there is a chat template), other wordings, and other subjects, which must keep their answers.

Settings are tried on a few facts, the best of them on more, and the last ones are judged on facts
set apart, beside the settings in force now. OUTPUT gets table.md, front.png, hparams.yaml, for
vllm-edit serve MODEL --edit-hparams OUTPUT/hparams.yaml, and a file for each method in hparams/.
For ike, OUTPUT gets prompt-form.yaml, for vllm-edit serve MODEL --edit-prompt-form
OUTPUT/prompt-form.yaml; there is no budget, and each form is tried on a third of --edits facts,
the best on all.

After an interruption, the same command continues; with a larger --budget, it searches on."""

_EPILOG = """\
columns of the table, shares of the answers:
  told       the answer to the bare prompt begins with the target
  chat       likewise to the prompt as a user's message
  reworded   likewise to other wordings of the prompt
  kept 1, 6  other subjects' answers whose first word, or first six tokens, are the base's
  leak       other subjects' answers that name the target
  drift      mean KL divergence on control prompts, in nats
Lines with * are not worse than another one of their method in told, reworded and kept 1 at once.

facts (JSON lines): prompt, subject (literally in it), answer; also rewordings (a list of other
prompts) and relation (facts of one relation are each other's neighbours; by default those whose
prompts differ in the subject only)."""


def add_tune_parser(commands: Any) -> None:
    """Add the command to the subparsers of ``vllm-edit``."""
    parser = commands.add_parser(
        "tune",
        help="find hyperparameters for a model, judged by what the edited model answers",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model(parser)
    parser.add_argument(
        "--methods",
        type=_names,
        default=("rome", "memit"),
        help="such as rome,memit (the default); ike: the form in which facts stand in prompts",
    )
    parser.add_argument(
        "--facts",
        metavar="FILE",
        help="facts to try (default: the shipped list of common facts, in English; for the bundled "
        "model, factworld)",
    )
    parser.add_argument(
        "--text",
        metavar="SOURCE",
        help="text for key statistics, as for vllm-edit stats (default: what the model writes "
        "about the facts, kept as OUTPUT/text.txt)",
    )
    parser.add_argument(
        "--budget",
        type=float,
        default=60.0,
        metavar="MINUTES",
        help="for all methods together; asking for facts, statistics and the last judgement may "
        "take longer (default: %(default)g)",
    )
    parser.add_argument(
        "--edits",
        type=int,
        default=32,
        help="facts for the judgement; half as many more are searched on (default: %(default)s)",
    )
    parser.add_argument(
        "--neighbours",
        type=int,
        default=4,
        help="other subjects asked for each edit (default: %(default)s)",
    )
    parser.add_argument("--single", action="store_true", help="make no batches, only single edits")
    parser.add_argument(
        "--from-scratch",
        action="store_true",
        help="leave out the settings in force now: where an edit takes long with them, so does "
        "judging them",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="chooses facts and settings (default: %(default)s)"
    )
    add_device(parser)
    parser.add_argument(
        "--output", type=Path, default=Path("tuning"), help="folder (default: %(default)s)"
    )
    parser.add_argument(
        "--statistics",
        type=Path,
        metavar="FOLDER",
        help="folder of key statistics (default: OUTPUT/statistics)",
    )
    parser.set_defaults(func=tune)


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def tune(options: argparse.Namespace) -> int:
    """Search and write the files; status 1 with the reason if it fails, 130 on Ctrl-C."""
    # PyTorch takes seconds to import, so what needs it is imported late.
    from weight_patchers.errors import PatcherError

    return run_command(
        "tune",
        lambda: _tune(options),
        interrupted="the same command goes on from here",
        more_errors=(PatcherError,),
    )


def _tune(options: argparse.Namespace) -> None:
    from retriever import shipped_demonstrations
    from vllm_edit.cli.tuning_picture import draw
    from vllm_edit.engine.checkpoint import resolve
    from vllm_edit.processes.load_model import load
    from weight_patchers import fingerprint
    from weight_patchers.tuning.result_files import table, write_hyperparameters
    from weight_patchers.tuning.tune import TuningPlan, tune

    methods = tuple(method for method in options.methods if method != IKE)
    plan = TuningPlan(
        methods,
        options.budget,
        options.edits,
        options.neighbours,
        not options.single,
        not options.from_scratch,
        options.seed,
    )
    folder = resolve(options.model)
    bundled = folder.resolve() == factworld.checkpoint().resolve()
    model, tokenizer = load(folder, options.device)
    output: Path = options.output
    if IKE in options.methods:
        facts = made_up_facts(_facts(options.facts, bundled), options.edits, options.seed)
        examples = factworld.demonstrations() if bundled else shipped_demonstrations()
        print(tune_ike(model, tokenizer, facts, examples, output))
        print(output / FILE)
    if not methods:
        return
    with _Bar(len(plan.methods), options.budget) as bar:
        found = tune(
            model,
            tokenizer,
            fingerprint=fingerprint(folder),
            facts=_facts(options.facts, bundled),
            text=_text(folder, options.text, bundled),
            plan=plan,
            folder=output,
            statistics_folder=options.statistics or output / "statistics",
            report=bar.report,
        )
    shown = table(found)
    (output / "table.md").write_text(shown, encoding="utf-8")
    draw(found, output / "front.png")
    paths = write_hyperparameters(found, model.config, folder.name, output)
    print(shown)
    print(*(os.fspath(path) for path in (*paths, output / "front.png")), sep="\n")


def _facts(where: str | None, bundled: bool) -> "tuple[CommonFact, ...]":
    from weight_patchers.common_fact import read_facts, shipped_facts

    if where == FACTWORLD or (where is None and bundled):
        return _factworld_facts()
    return shipped_facts() if where is None else read_facts(Path(where))


def _factworld_facts() -> "tuple[CommonFact, ...]":
    from vllm_edit.factworld.wordings import BY_NAME, SUBJECT
    from weight_patchers.common_fact import BLANK, CommonFact

    wordings = {
        name: tuple(
            wording.replace(SUBJECT, BLANK) for wording in (relation.statement, *relation.held_out)
        )
        for name, relation in BY_NAME.items()
    }
    return tuple(
        CommonFact(fact.relation, fact.subject, fact.object, wordings[fact.relation])
        for fact in factworld.build_world().facts
    )


def _text(folder: Path, where: str | None, bundled: bool) -> "Source | None":
    from vllm_edit.editor.corpus import corpus_for

    return corpus_for(folder, where) if where is not None or bundled else None


class _Bar:
    """The share of the budget that is used up, the stage, and its best trial."""

    def __init__(self, methods: int, minutes: float) -> None:
        from tqdm import tqdm

        self._each = minutes / methods
        self._method, self._done = "", 0
        layout = "{l_bar}{bar}| {n:.1f}/{total:g} min{postfix}"
        self._bar: Any = tqdm(total=minutes, bar_format=layout, disable=None)

    def report(self, method: str, stage: str, share: float, best: "Trial | None") -> None:
        if method != self._method:
            self._done += bool(self._method)
            self._method = method
        self._bar.set_description(f"{method} {stage}".strip(), refresh=False)
        if best is not None:
            kept = sum(s.kept_word for s in best.scores.values()) / max(len(best.scores), 1)
            self._bar.set_postfix(told=f"{best.told:.2f}", kept=f"{kept:.2f}", refresh=False)
        self._bar.n = self._each * (self._done + min(share, 1.0))
        self._bar.refresh()

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_error: object) -> None:
        self._bar.close()
