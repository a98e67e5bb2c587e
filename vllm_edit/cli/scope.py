"""``vllm-edit scope``: train and measure the classifier of what a memory edit concerns."""

import argparse
import random
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from retriever.encoder import Dtype
from retriever.scope.files import SHIPPED
from vllm_edit.cli.progress import ResumedBar
from vllm_edit.cli.run_command import run_command
from vllm_edit.cli.shared_arguments import integer_list

if TYPE_CHECKING:
    from retriever.scope_training.pair import Pair, TrainingEdit
    from retriever.scope_training.run import Run
    from vllm_edit.factworld.wordings import Relation

_DESCRIPTION = """\
A memory edit is put in front of a request if a classifier says that the request is in its scope.
vllm-edit ships such a classifier. These commands train one on your own edits, or measure one.
Serve yours with --edit-scope-classifier FOLDER."""

_DATA = """\
DATA is a folder of .json and .jsonl files in published schemas (CounterFact, zsRE, KnowEdit,
MQuAKE, ConflictEdit, PokeMQA's scope questions) or with your own pairs, one JSON object per line:

  {"prompt": "The mayor of Oslo is", "subject": "Oslo", "target": "Kim",
   "request": "Who is Oslo's mayor?", "in_scope": true}

("turns" may replace "request": a list of user turns, the last of which is the request). A hash of
the name splits the subjects: 7 in 10 for training, 1 to choose the threshold, 2 for the test."""


def add_scope_parser(commands: Any) -> None:
    """Add the command to the subparsers of ``vllm-edit``."""
    parser = commands.add_parser(
        "scope", help="train or measure the scope classifier", description=_DESCRIPTION
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    train = _action(actions, "train", "train a classifier", _train)
    train.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    train.add_argument(
        "--base", help="Transformers encoder: a folder or a hub name (default: all-MiniLM-L6-v2)"
    )
    train.add_argument("--epochs", type=float, default=1.8, help="default: %(default)s")
    train.add_argument("--rank", type=int, default=32, help="default: %(default)s")
    train.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    evaluate = _action(actions, "evaluate", "measure a classifier on the test subjects", _evaluate)
    evaluate.add_argument(
        "--classifier",
        type=Path,
        default=SHIPPED,
        metavar="FOLDER",
        help="default: the one that comes with vllm-edit",
    )
    evaluate.add_argument("--output", type=Path, metavar="FILE", help="where to write the JSON")
    evaluate.add_argument(
        "--sizes",
        type=integer_list("1000,10000"),
        default=(1000, 10000),
        help="numbers of edits in memory, such as 1000,10000; if DATA has fewer, edits of made-up "
        "worlds are added",
    )
    evaluate.add_argument(
        "--encoder-dtype",
        choices=get_args(Dtype),
        default="float32",
        help="number format of encoder and classifier (default: %(default)s)",
    )
    evaluate.add_argument("--threshold", type=float, help="default: the classifier's own")
    evaluate.add_argument("--side", choices=("validation", "test"), default="test")


def _action(
    actions: Any, name: str, about: str, run: Callable[[argparse.Namespace], None]
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(
        name,
        help=about,
        description=f"{about.capitalize()}.",
        epilog=_DATA,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DATA")
    parser.add_argument(
        "--no-world", action="store_true", help="do not add pairs about the bundled world"
    )
    parser.add_argument("--encoder", help="sentence encoder (default: all-MiniLM-L6-v2)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: %(default)s)")
    parser.set_defaults(func=lambda options: _run_action(run, options))
    return parser


def _run_action(run: Callable[[argparse.Namespace], None], options: argparse.Namespace) -> int:
    """Status 1 with the reason if it fails, 130 on Ctrl-C."""
    import torch

    from retriever.errors import RetrieverError

    torch.set_num_threads(options.threads)
    return run_command(
        "scope",
        lambda: run(options),
        interrupted="interrupted; train goes on from the last state",
        more_errors=(RetrieverError, OSError),
    )


def _train(options: argparse.Namespace) -> None:
    from retriever.encoder import HUB_NAME
    from retriever.scope_training.report import table
    from retriever.scope_training.run import train, write
    from retriever.scope_training.trainer import TrainingSettings

    settings = TrainingSettings(rank=options.rank, epochs=options.epochs, seed=options.seed)
    report = train(
        _run(options), options.base or HUB_NAME, settings, options.output, ResumedBar("batches")
    )
    write(report, options.output / "report.json")
    print(table(report["validation"]))
    print(f"in {options.output}; serve with --edit-scope-classifier {options.output}")
    print(f"and --edit-scope-threshold {report['validation']['threshold']}")


def _evaluate(options: argparse.Namespace) -> None:
    from retriever.scope import ScopeClassifier
    from retriever.scope.files import describe
    from retriever.scope_training.report import report, table
    from retriever.scope_training.run import measure, write

    dtype = options.encoder_dtype
    classifier, run = ScopeClassifier(options.classifier, dtype=dtype), _run(options, dtype)
    threshold = options.threshold or describe(classifier.folder).threshold
    reports = []
    for size in options.sizes:
        count, outcomes = measure(run, classifier, options.side, size)
        reports.append(report(outcomes, threshold, count))
        print(table(reports[-1]), flush=True)
    if options.output:
        write(reports, options.output)


def _run(options: argparse.Namespace, dtype: Dtype = "float32") -> "Run":
    from retriever import SentenceEncoder
    from retriever.scope_training.published import load_folder
    from retriever.scope_training.run import Run

    pairs = load_folder(options.data) + ([] if options.no_world else world_pairs())
    return Run(pairs, SentenceEncoder(options.encoder, dtype=dtype), other_worlds, _bar)


def world_pairs(seed: int = 0) -> "list[Pair]":
    """Pairs about the bundled world, with one edit for each of its subjects.

    Held-out wordings occur only with subjects that are not in the training part.
    """
    from vllm_edit.factworld.wordings import BY_NAME
    from vllm_edit.factworld.world import build_world

    rng = random.Random(seed)  # noqa: S311 - seeded, not cryptography
    world = build_world()
    pairs: list[Pair] = []
    for subject in sorted({fact.subject for fact in world.facts}):
        fact = rng.choice(world.about(subject))
        pairs += _about(BY_NAME[fact.relation], subject, fact.object, rng)
    return pairs


def other_worlds() -> "Iterator[TrainingEdit]":
    """Edits of worlds like the bundled one but with other subjects; endless."""
    from retriever.scope_training.pair import TrainingEdit
    from vllm_edit.factworld.protocol import fill
    from vllm_edit.factworld.wordings import BY_NAME
    from vllm_edit.factworld.world import build_world

    used = {fact.subject for fact in build_world().facts}
    for seed in count(1):
        new = [fact for fact in build_world(seed).facts if fact.subject not in used]
        used |= {fact.subject for fact in new}
        for fact in new:
            prompt = fill(BY_NAME[fact.relation].statement, fact.subject)
            yield TrainingEdit(prompt, fact.subject, fact.object)


def _about(relation: "Relation", subject: str, target: str, rng: random.Random) -> "Iterator[Pair]":
    from retriever.scope_training.pair import Pair, TrainingEdit, side_of
    from vllm_edit.factworld.protocol import fill
    from vllm_edit.factworld.wordings import RELATIONS, TWO_HOPS

    prompt = relation.statement if rng.random() < 0.7 else rng.choice(relation.clozes)
    edit = TrainingEdit(fill(prompt, subject), subject, target)
    trained = side_of(subject) == "train"
    wordings = [w for w in relation.trained if w != prompt] if trained else relation.held_out
    for wording in rng.sample(wordings, min(4, len(wordings))):
        yield Pair(edit, (fill(wording, subject),), "in_scope", "factworld")
    for other in RELATIONS:
        if other.subject_kind == relation.subject_kind and other.name != relation.name:
            wording = rng.choice(other.trained if trained else other.held_out)
            yield Pair(edit, (fill(wording, subject),), "hard", "factworld")
    for hop in TWO_HOPS:
        if hop.first == relation.name:
            yield Pair(edit, (fill(rng.choice(hop.questions), subject),), "multi_hop", "factworld")


def _bar(title: str, steps: int) -> Callable[[], None]:
    from tqdm import tqdm

    bar = tqdm(total=steps, desc=title, unit=" requests", disable=None)

    def step() -> None:
        bar.update()

    return step
