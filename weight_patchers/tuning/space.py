"""What is searched for a method: `space.yaml`, checked against the method's hyperparameters."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.resources import files
from itertools import product
from typing import Any

import yaml
from transformers import PretrainedConfig

from weight_patchers.errors import InvalidHyperparameters
from weight_patchers.hyperparameters import build, find
from weight_patchers.methods import METHODS

Settings = Mapping[str, Any]
"""All hyperparameters of a method, by name."""


@dataclass(frozen=True)
class Space:
    """The search space of one method for one model; its settings are valid hyperparameters.

    `present` are those in force now; layers are below `depth`. Along the `ladder`, values of the
    hyperparameter `rung`, edits are told less and more is kept.
    """

    method: str
    present: Settings
    places: Sequence[Settings]
    recipes: Sequence[Settings]
    rung: str | None
    ladder: Sequence[Any]
    varied: Mapping[str, Mapping[str, Sequence[Any]]]
    depth: int

    @classmethod
    def of(cls, method: str, config: PretrainedConfig, *, chat: bool) -> "Space":
        """The method's space; `chat` says that there is a chat template to edit in."""
        content = yaml.safe_load(
            (files("weight_patchers.tuning") / "space.yaml").read_text(encoding="utf-8")
        )
        table = content["methods"].get(method, content["other"])
        kind = METHODS[method].hparams
        names = {field.name for field in fields(kind)}
        varied = {name: how for name, how in table.get("vary", {}).items() if name in names}
        if not chat:
            varied.pop("chat", None)
        rung, ladder = next(iter(table.get("ladder", {}).items()), (None, ()))
        if rung not in names:
            rung, ladder = None, ()
        depth = int(config.get_text_config().num_hidden_layers)
        places = list(_places(table, names, depth))
        recipes = [content["recipes"][name] for name in table["recipes"]] or [{}]
        return cls(
            method=method,
            present=asdict(find(kind, method, config)),
            places=places,
            recipes=[_known(recipe, names) for recipe in recipes],
            rung=rung,
            ladder=ladder,
            varied=varied,
            depth=1 + max(max(p.get("layers", (p.get("layer"),))) for p in places),
        )

    def starts(self, rng: random.Random) -> list[Settings]:
        """Settings to begin with: each recipe at each place, in random order."""
        pairs = list(product(self.recipes, self.places))
        rng.shuffle(pairs)
        return [{**self.present, **recipe, **place} for recipe, place in pairs]

    def on_rung(self, settings: Settings, number: int) -> Settings:
        """The settings with the ladder's value of that number."""
        return settings if self.rung is None else {**settings, self.rung: self.ladder[number]}

    def nearest_rung(self, settings: Settings) -> int:
        """The number of the ladder's value that is nearest; 0 without a ladder."""
        if self.rung is None or settings[self.rung] is None:
            return 0
        here = float(settings[self.rung])
        return min(range(len(self.ladder)), key=lambda n: abs(float(self.ladder[n]) / here - 1))

    def changes(self, settings: Settings) -> Iterator[Settings]:
        """Each valid settings that differ in one hyperparameter: by a table's value or a layer."""
        for name, how in self.varied.items():
            old = settings[name]
            values = list(how.get("to", ()))
            if isinstance(old, int | float) and not isinstance(old, bool):
                kind = type(old)
                values += [kind(old * factor) for factor in how.get("times", ())]
            for value in values:
                if value != old and (changed := self.valid({**settings, name: value})):
                    yield changed
        for moved in _moved(settings, self.depth):
            if valid := self.valid({**settings, **moved}):
                yield valid

    def valid(self, settings: Settings) -> Settings | None:
        """The settings as the hyperparameters hold them, or None if they are out of range."""
        try:
            return asdict(build(METHODS[self.method].hparams, settings))
        except InvalidHyperparameters:
            return None


def _known(values: Settings, names: set[str]) -> Settings:
    return {name: value for name, value in values.items() if name in names}


def _places(table: Mapping[str, Any], names: set[str], depth: int) -> Iterator[Settings]:
    """The layers to write, each choice once."""
    lasts = sorted({min(round(share * depth), depth - 1) for share in table["last"]})
    for last in lasts:
        if "layer" in names:
            yield {"layer": last}
            continue
        for count in table.get("counts", (1,)):
            if count <= last + 1:
                yield {"layers": tuple(range(last + 1 - count, last + 1))}


def _moved(settings: Settings, depth: int) -> Iterator[Settings]:
    """The place moved by a layer, or wider or narrower by one."""
    if "layer" in settings:
        yield from ({"layer": n} for n in _around(settings["layer"]) if 0 <= n < depth)
        return
    first, last = settings["layers"][0], settings["layers"][-1]
    ranges = [(first - 1, last - 1), (first + 1, last + 1), (first - 1, last), (first + 1, last)]
    for low, high in ranges:
        if 0 <= low <= high < depth:
            yield {"layers": tuple(range(low, high + 1))}


def _around(number: int) -> tuple[int, int]:
    return number - 1, number + 1
