"""Loads records from a file in a named schema, or from the bundled world."""

import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vllm_edit.domain.errors import InvalidData
from vllm_edit.evaluation.data.akew import akew_paragraph, akew_triple
from vllm_edit.evaluation.data.conflictedit import conflictedit
from vllm_edit.evaluation.data.counterfact import counterfact
from vllm_edit.evaluation.data.easyedit import easyedit, knowedit
from vllm_edit.evaluation.data.fields import Fields
from vllm_edit.evaluation.data.locft import locft
from vllm_edit.evaluation.data.mquake import mquake
from vllm_edit.evaluation.data.qaedit import qaedit
from vllm_edit.evaluation.data.unke import unke
from vllm_edit.evaluation.data.wikibigedit import wikibigedit
from vllm_edit.evaluation.data.zsre import zsre_alternative, zsre_true
from vllm_edit.evaluation.record import Record
from weight_patchers.json_lines import read_lines

FACTWORLD = "factworld"

SCHEMAS: Mapping[str, Callable[[Fields, int], Record | None]] = {
    "counterfact": counterfact,
    "easyedit": easyedit,
    "zsre-alternative": zsre_alternative,
    "zsre-true": zsre_true,
    "knowedit": knowedit,
    "mquake": mquake,
    "conflictedit": conflictedit,
    "qaedit": qaedit,
    "wikibigedit": wikibigedit,
    "locft": locft,
    "unke": unke,
    "akew": akew_paragraph,
    "akew-triples": akew_triple,
}

_WORLD = {"zsre-alternative": "zsre", "zsre-true": "zsre"}
"""Names of schemas in the bundled world, where they differ."""


def load(source: str, count: int, seed: int) -> list[Record]:
    """The records of SCHEMA:FILE, or of the bundled world, factworld or factworld:SCHEMA.

    A file is read whole; `count` and `seed` select the records of the world.

    Raises:
        InvalidData: there is no such schema or file, or a record of it is wrong.
    """
    schema, _, path = source.partition(":")
    if schema == FACTWORLD:
        return _world(path or "easyedit", count, seed)
    if schema not in SCHEMAS or not path:
        raise InvalidData(
            f"{source!r} names no data: give SCHEMA:FILE with one of {', '.join(SCHEMAS)}, "
            f"or {FACTWORLD}."
        )
    return parse(schema, _read(Path(path)), path)


def parse(schema: str, items: list[Any], name: str) -> list[Record]:
    """Read a list of items in a schema; `name` is its name in InvalidData errors.

    Items without an edit are left out.
    """
    reader = SCHEMAS[schema]
    records = [
        reader(Fields.of(f"{name}, record {number}", item), number)
        for number, item in enumerate(items)
    ]
    return [record for record in records if record is not None]


def _read(path: Path) -> list[Any]:
    try:
        lines = read_lines(path)
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in lines if line.strip()]
        items = json.loads("\n".join(lines))
    except OSError as error:
        raise InvalidData(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InvalidData(f"{path} is not written in UTF-8.") from error
    except ValueError as error:
        raise InvalidData(f"{path} is no JSON: {error}.") from error
    if not isinstance(items, list):
        raise InvalidData(f"{path} holds no list of records.")
    return items


def _world(schema: str, count: int, seed: int) -> list[Record]:
    """`count` records of the world, or all if there are fewer."""
    from vllm_edit.factworld import schemas
    from vllm_edit.factworld.world import build_world

    name = _WORLD.get(schema, schema)
    if schema not in SCHEMAS or name not in schemas.SCHEMAS:
        raise InvalidData(f"{FACTWORLD} has no edits in the schema {schema!r}.")
    rng = random.Random(f"{name} {seed}")  # noqa: S311 -- to be the same again
    return parse(schema, schemas.SCHEMAS[name](build_world(), rng, count), FACTWORLD)
