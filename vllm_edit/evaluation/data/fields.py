"""Fields of a record in a data file, checked as they are read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vllm_edit.domain.errors import InvalidData
from vllm_edit.evaluation.record import ONE_HOP, Probe, RequestedRewrite


@dataclass(frozen=True)
class Fields:
    """The fields of one JSON object; `where` names the object in errors.

    Every method raises InvalidData, which names the file, the record and the field.
    """

    where: str
    content: Mapping[str, Any]
    path: str = ""

    @classmethod
    def of(cls, where: str, content: object, path: str = "") -> "Fields":
        if not isinstance(content, dict):
            raise InvalidData(f"{where}: {path or 'the record'} is no object.", field=path or None)
        return cls(where, content, path)

    def wrong(self, name: str, what: str) -> InvalidData:
        field = f"{self.path}{name}"
        return InvalidData(f"{self.where}: field {field!r} {what}.", field=field)

    def has(self, name: str) -> bool:
        return self.content.get(name) is not None

    def get(self, name: str) -> Any:
        if not self.has(name):
            raise self.wrong(name, "is missing")
        return self.content[name]

    def text(self, name: str) -> str:
        """A string that is not blank."""
        value = self.get(name)
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(name, "is no text")
        return value.strip()

    def texts(self, name: str) -> tuple[str, ...]:
        """A string, or all strings of nested lists, without empty ones."""
        texts = tuple(self._flat(name, self.get(name)))
        if not texts:
            raise self.wrong(name, "holds no text")
        return texts

    def optional(self, name: str) -> tuple[str, ...]:
        """As `texts`, but empty if the field is missing or empty."""
        return tuple(self._flat(name, self.content.get(name) or ()))

    def _flat(self, name: str, value: object) -> list[str]:
        if isinstance(value, str):
            return [value.strip()] if value.strip() else []
        if isinstance(value, list | tuple):
            return [text for part in value for text in self._flat(name, part)]
        raise self.wrong(name, "is neither text nor a list of texts")

    def inner(self, name: str) -> "Fields":
        return Fields.of(self.where, self.get(name), f"{self.path}{name}.")

    def each(self, name: str) -> list["Fields"]:
        """The objects of a list; a single object counts as a list with one item."""
        value = self.get(name)
        items = value if isinstance(value, list) else [value]
        return [
            Fields.of(self.where, item, f"{self.path}{name}[{index}].")
            for index, item in enumerate(items)
        ]

    def case(self, number: int) -> str:
        return str(self.content.get("case_id", self.content.get("id", number)))

    def filled(self, name: str, subject: str) -> str:
        """A template in which the subject replaces {}."""
        template = self.text(name)
        if "{}" not in template:
            raise self.wrong(name, "has no {} for the subject")
        return template.replace("{}", subject)

    def labelled(self, name: str, label: str) -> str:
        """The field `label` of the object in this field."""
        return self.inner(name).text(label)

    def rewrite(self) -> RequestedRewrite:
        """`requested_rewrite` of CounterFact and MQuAKE."""
        subject = self.text("subject")
        return RequestedRewrite(
            prompt=self.filled("prompt", subject),
            subject=subject,
            target_new=self.labelled("target_new", "str"),
            ground_truth=self.labelled("target_true", "str"),
        )

    def probes(self, name: str, kinds: Mapping[str, str]) -> dict[str, tuple[Probe, ...]]:
        """EasyEdit's groups of probes, by the names that `kinds` gives them.

        Probes without a prompt or an answer, which published files contain, are left out.
        """
        if not self.has(name):
            return {}
        groups = self.inner(name)
        probes_by_kind: dict[str, tuple[Probe, ...]] = {}
        for key in groups.content:
            if key not in kinds:
                raise groups.wrong(key, f"is no kind of {name}: {', '.join(kinds)}")
            hops = kinds[key] == ONE_HOP
            read = [
                Probe(item.optional("prompt"), item.optional("ground_truth"), hops)
                for item in groups.each(key)
            ]
            probes = [probe for probe in read if probe.prompts and probe.answers]
            if probes:
                probes_by_kind[kinds[key]] = (*probes_by_kind.get(kinds[key], ()), *probes)
        return probes_by_kind
