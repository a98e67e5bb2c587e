"""The model names by which vLLM knows the variants."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from vllm_edit.variant import SEPARATOR, model_name

if TYPE_CHECKING:
    from vllm.entrypoints.openai.models.serving import OpenAIServingModels
    from vllm.lora.request import LoRARequest


class ModelNames:
    """Enters variants where vLLM looks names up, so that every route of its own knows them.

    A variant is another name of the served model, or an adapter on it, or, with a reason, not
    available: vLLM then knows no such model.
    """

    def __init__(self, models: "OpenAIServingModels") -> None:
        self._models = models
        self.served = tuple(path.name for path in models.base_model_paths)
        self._reasons: dict[str, str] = {}

    @property
    def reasons(self) -> Mapping[str, str]:
        """Why a variant is not available, for each that is not."""
        return self._reasons

    def listed(self) -> list[str]:
        """The names under which vLLM finds the models that it lists, in its order."""
        return [*(path.name for path in self._models.base_model_paths), *self._models.lora_requests]

    def variant_of(self, name: str) -> str | None:
        """The variant in a model name, if it is one of these."""
        for served in self.served:
            if name.startswith(served + SEPARATOR):
                return name[len(served + SEPARATOR) :]
        return None

    def new_number(self) -> int:
        """A number for an adapter that no other of vLLM's has."""
        number: int = self._models.lora_id_counter.inc(1)
        return number

    def alias(self, variant: str) -> None:
        """Serve the variant with the merged weights."""
        from vllm.entrypoints.openai.models.protocol import BaseModelPath

        self.withdraw(variant)
        known = {path.name: path for path in self._models.base_model_paths}
        for served, name in self._names(variant):
            path = BaseModelPath(name=name, model_path=known[served].model_path)
            self._models.base_model_paths.append(path)

    def adapt(self, variant: str, adapter: "LoRARequest") -> None:
        """Serve the variant with an adapter."""
        self.withdraw(variant)
        for _, name in self._names(variant):
            self._models.lora_requests[name] = adapter

    def refuse(self, variant: str, reason: str) -> None:
        """Serve the variant no more, for a reason."""
        self.withdraw(variant)
        self._reasons[variant] = reason

    def withdraw(self, variant: str) -> None:
        """Forget the variant."""
        self._reasons.pop(variant, None)
        gone = {name for _, name in self._names(variant)}
        paths = self._models.base_model_paths
        paths[:] = [path for path in paths if path.name not in gone]
        for name in gone:
            self._models.lora_requests.pop(name, None)

    def _names(self, variant: str) -> Iterator[tuple[str, str]]:
        for served in self.served:
            yield served, model_name(served, variant)
