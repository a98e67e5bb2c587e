"""Pairs from published editing data, recognised by their fields, not by their file names.

A folder may contain: CounterFact (of ROME, or flat as EasyEdit has it), zsRE (of MEND),
KnowEdit, MQuAKE, ConflictEdit, PokeMQA's scope questions (parsed with MQuAKE's wordings, so put an
MQuAKE file beside them), and JSON lines of your own with the fields
`prompt`, `subject`, `target`, `request` (or `turns`, a list whose last item is the request) and
`in_scope`.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from retriever.errors import InvalidFactError, InvalidTrainingDataError
from retriever.fact import Fact, FactLimits, check_fact
from retriever.scope_training.pair import Pair, TrainingEdit
from retriever.text import name_of

Record = dict[str, Any]

_NQ = "nq question: "


def load_folder(folder: Path) -> list[Pair]:
    """Pairs of every file that can be read, or `InvalidTrainingDataError` if there are none."""
    files = sorted(p for p in folder.glob("*") if p.suffix in (".json", ".jsonl"))
    records = {path: _records(path) for path in files}
    wordings = [w for rs in records.values() for r in rs for w in _wordings(r)]
    patterns = [_pattern(wording) for wording in dict.fromkeys(wordings)]
    pairs = [
        pair
        for path, rs in records.items()
        for record in rs
        for pair in _pairs(record, path.stem, patterns)
        if _can_be_stored(pair.edit)
    ]
    if not pairs:
        raise InvalidTrainingDataError(
            f"{folder} has no file in a schema that is known here; see "
            "retriever.scope_training.published for those that are."
        )
    return pairs


@lru_cache(maxsize=1024)
def _can_be_stored(edit: TrainingEdit) -> bool:
    """Whether a memory takes the edit; some published ones have no target."""
    if not all(isinstance(text, str) for text in (edit.prompt, edit.subject, edit.target)):
        return False
    try:
        check_fact(Fact("1", edit.subject, edit.prompt, edit.target), FactLimits())
    except InvalidFactError:
        return False
    return True


def _records(path: Path) -> list[Record]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        records: Any
        if path.suffix == ".jsonl":
            records = [json.loads(line) for line in text.split("\n") if line.strip()]
        else:
            records = json.loads(text)
    except ValueError as error:
        raise InvalidTrainingDataError(f"{path}: not JSON ({error}).") from error
    return [r for r in records if isinstance(r, dict)] if isinstance(records, list) else []


def _pairs(record: Record, source: str, patterns: Sequence[re.Pattern[str]]) -> Iterator[Pair]:
    if "edit" in record and "questions" in record:
        yield from _pokemqa(record, source, patterns)
        return
    for fields, read in _SCHEMAS:
        if fields <= record.keys():
            try:
                yield from read(record, source)
            except (KeyError, TypeError, AttributeError) as error:
                raise InvalidTrainingDataError(
                    f"{source}: a record is not in the schema that its fields {sorted(fields)} "
                    f"stand for ({error!r})."
                ) from error
            return


def _own(record: Record, source: str) -> Iterator[Pair]:
    edit = TrainingEdit(record["prompt"], record["subject"], record["target"])
    turns = tuple(record["turns"]) if "turns" in record else (record["request"],)
    if record["in_scope"]:
        yield Pair(edit, turns, "in_scope", source)
    else:
        named = " ".join(name_of(record["subject"])) in " ".join(name_of(" ".join(turns)))
        yield Pair(edit, turns, "hard" if named else "easy", source)


def _zsre(record: Record, source: str) -> Iterator[Pair]:
    edit = TrainingEdit(record["src"], record["subject"], record["alt"])
    yield Pair(edit, (record["rephrase"],), "in_scope", source)
    yield Pair(edit, (_question(record["loc"].removeprefix(_NQ)),), "easy", source)


def _easyedit(record: Record, source: str) -> Iterator[Pair]:
    edit = TrainingEdit(record["prompt"], record["subject"], record["target_new"])
    yield Pair(edit, (record["rephrase_prompt"],), "in_scope", source)
    yield Pair(edit, (record["locality_prompt"],), "easy", source)


def _counterfact(record: Record, source: str) -> Iterator[Pair]:
    rewrite = record["requested_rewrite"]
    edit = _edit(rewrite)
    for text in record["paraphrase_prompts"]:
        yield Pair(edit, (text,), "in_scope", source)
    for text in record["neighborhood_prompts"]:
        yield Pair(edit, (text,), "easy", source)


def _knowedit(record: Record, source: str) -> Iterator[Pair]:
    edit = TrainingEdit(record["prompt"], record["subject"], record["target_new"])
    if record.get("rephrase_prompt"):
        yield Pair(edit, (record["rephrase_prompt"],), "in_scope", source)
    before = _answers(record.get("ground_truth"))
    for probe in record["locality"].get("Relation_Specificity", ()):
        # Some of these probes ask for the edited fact itself: their answer is the edit's old one.
        if not before & _answers(probe["ground_truth"]):
            yield Pair(edit, (probe["prompt"],), "hard", source)
    for probe in record.get("portability", {}).get("Reasoning", ()):
        if record["subject"] in probe["prompt"]:
            yield Pair(edit, (probe["prompt"],), "multi_hop", source)


def _mquake(record: Record, source: str) -> Iterator[Pair]:
    rewrites = record["requested_rewrite"]
    for rewrite in rewrites:
        yield Pair(_edit(rewrite), (rewrite["question"],), "in_scope", source)
    for text in record["questions"]:
        edits = [_edit(rewrite) for rewrite in rewrites if rewrite["subject"] in text]
        yield from (Pair(edit, (text,), "multi_hop", source) for edit in edits)


def _conflictedit(record: Record, source: str) -> Iterator[Pair]:
    for edited in record["edits"]:
        subject, relation = edited["subject"]["label"], edited["relation"]
        prompt, question = relation["prompt"], relation["query"]
        edit = TrainingEdit(prompt.replace("{}", subject), subject, edited["new_object"]["label"])
        yield Pair(edit, (question.replace("{}", subject),), "in_scope", source)


def _pokemqa(record: Record, source: str, patterns: Sequence[re.Pattern[str]]) -> Iterator[Pair]:
    matches = [match for pattern in patterns if (match := pattern.fullmatch(record["edit"]))]
    if matches:
        match = min(matches, key=lambda match: len(match.group("subject")))
        edit = TrainingEdit(match.group("prompt"), match.group("subject"), match.group("target"))
        for text in record["questions"]:
            yield Pair(edit, (text,), "in_scope", source)


_SCHEMAS: tuple[tuple[frozenset[str], Callable[[Record, str], Iterator[Pair]]], ...] = (
    (frozenset({"prompt", "subject", "target", "in_scope"}), _own),
    (frozenset({"src", "rephrase", "alt", "loc"}), _zsre),
    (frozenset({"prompt", "subject", "target_new", "locality"}), _knowedit),
    (
        frozenset({"prompt", "subject", "target_new", "rephrase_prompt", "locality_prompt"}),
        _easyedit,
    ),
    (frozenset({"requested_rewrite", "paraphrase_prompts", "neighborhood_prompts"}), _counterfact),
    (frozenset({"requested_rewrite", "questions", "single_hops"}), _mquake),
    (frozenset({"rule", "triples", "edits"}), _conflictedit),
)


def _edit(rewrite: Record) -> TrainingEdit:
    subject = rewrite["subject"]
    return TrainingEdit(
        rewrite["prompt"].replace("{}", subject), subject, rewrite["target_new"]["str"]
    )


def _wordings(record: Record) -> Iterator[str]:
    if "single_hops" in record:
        yield from (rewrite["prompt"] for rewrite in record["requested_rewrite"])


def _pattern(wording: str) -> re.Pattern[str]:
    before, _, after = wording.partition("{}")
    subject = f"{re.escape(before)}(?P<subject>.+){re.escape(after)}"
    return re.compile(f"(?P<prompt>{subject}) (?P<target>.+)")


def _question(text: str) -> str:
    return text if text.endswith("?") else f"{text}?"


def _answers(value: Any) -> set[str]:
    """A probe's answers: a str, a list, or lists of aliases."""
    if isinstance(value, str):
        return {value.casefold()}
    if isinstance(value, list):
        return {answer for item in value for answer in _answers(item)}
    return set()
