"""How facts are put in front of requests to one model: as plain text, under labels, restated.

`forms/*.yaml` each hold `match` (values of the model's config that identify it), `text` and `chat`;
`forms/generic.yaml` holds no `match` and serves every other model.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from retriever.errors import InvalidPromptFormError

_KINDS = {"fact_label": str, "request_label": str, "demonstrations": int, "exchanges": int}

Part = Literal["fact", "restated"]
Slot = Literal["user", "system"]


@dataclass(frozen=True, slots=True)
class PromptForm:
    """How the facts of one request are shown. Raises `InvalidPromptFormError`."""

    shown: tuple[Part, ...] = ("fact",)
    """What stands for the best fact, one line each. fact: its statement. restated: the request's
    own last sentence, completed by the fact's answer. Less certain facts have their statements in
    front of it."""
    fact_label: str = "New Fact: "
    request_label: str = "Prompt: "
    demonstrations: int = 0
    """Number of demonstrations, in the same form."""
    slot: Slot = "user"
    """Where all this stands in a chat: in front of the last user turn, or in the system message."""
    exchanges: int = 0
    """How often the request, answered by the fact, stands in front of itself: in a text behind its
    facts and its label, in a chat as an earlier exchange of user and assistant."""

    def __post_init__(self) -> None:
        if not self.shown or not set(self.shown) <= set(get_args(Part)):
            raise InvalidPromptFormError(
                f"`shown` has one or more of {', '.join(get_args(Part))}; got {self.shown!r}."
            )
        if self.demonstrations < 0 or self.exchanges < 0:
            raise InvalidPromptFormError(
                "`demonstrations` and `exchanges` must be at least 0; got "
                f"{self.demonstrations} and {self.exchanges}."
            )
        if self.slot not in get_args(Slot):
            raise InvalidPromptFormError(f"`slot` is user or system; got {self.slot!r}.")


@dataclass(frozen=True, slots=True)
class PromptForms:
    """A model's forms for prompts and for chats."""

    text: PromptForm = field(default_factory=PromptForm)
    chat: PromptForm = field(default_factory=PromptForm)


def forms_for(config: Mapping[str, Any]) -> PromptForms:
    """The shipped forms of a model, by the values of its config, or the generic ones."""
    generic: object = None
    folder = files("retriever") / "ike" / "forms"
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if not entry.name.endswith(".yaml"):
            continue
        content = yaml.safe_load(entry.read_text(encoding="utf-8"))
        if "match" not in content:
            generic = content
        elif all(config.get(name) == value for name, value in content["match"].items()):
            return prompt_forms_from(content, entry.name)
    return prompt_forms_from(generic, "generic.yaml")


def load_prompt_forms(path: Path) -> PromptForms:
    """Read a YAML file with `text` and `chat`; raises `InvalidPromptFormError`."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InvalidPromptFormError(f"{path}: no YAML can be read there ({error}).") from error
    return prompt_forms_from(content, str(path))


def dump_prompt_forms(forms: PromptForms) -> str:
    """The YAML text that `load_prompt_forms` reads."""
    values = dataclasses.asdict(forms)
    for form in values.values():
        form["shown"] = list(form["shown"])
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def prompt_forms_from(content: object, where: str = "prompt forms") -> PromptForms:
    """Build the forms from a decoded mapping, checking its fields."""
    if not isinstance(content, dict) or not {"text", "chat"} <= content.keys():
        raise InvalidPromptFormError(f"{where}: expected a mapping with `text` and `chat`.")
    return PromptForms(_form(content["text"], where), _form(content["chat"], where))


def _form(values: object, where: str) -> PromptForm:
    names = {each.name for each in dataclasses.fields(PromptForm)}
    if not isinstance(values, dict) or not values.keys() <= names:
        raise InvalidPromptFormError(
            f"{where}: expected a mapping with some of {', '.join(sorted(names))}."
        )
    shown = values.get("shown", ["fact"])
    if not isinstance(shown, list) or not all(isinstance(part, str) for part in shown):
        raise InvalidPromptFormError(f"{where}: `shown` is a list of parts.")
    for name, kind in _KINDS.items():
        if type(values.get(name, kind())) is not kind:
            raise InvalidPromptFormError(f"{where}: `{name}` must be of type {kind.__name__}.")
    try:
        return PromptForm(**{**values, "shown": tuple(shown)})
    except InvalidPromptFormError as error:
        raise InvalidPromptFormError(f"{where}: {error}") from error
