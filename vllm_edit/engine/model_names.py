"""The model names by which vLLM knows the variants."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from vllm_edit.domain.variant import SEPARATOR, model_name
from vllm_edit.engine.progress import Progress
from vllm_edit.vllm_interface import models as vllm_models


@dataclass(frozen=True)
class Naming:
    """How a variant is served: with an adapter, not at all for a reason, or by the merged weights.

    ``adapter`` is the adapter's name, number and folder.
    """

    adapter: tuple[str, int, str] | None = None
    reason: str = ""


class ModelNames:
    """Adds variants where vLLM looks model names up, so that every route of vLLM's knows them.

    A variant is another name of the served model, or an adapter on it. Or it is unavailable for a
    reason, and vLLM knows no such model.
    """

    def __init__(self, models: vllm_models.ServedModels) -> None:
        self._models = models
        self.served = tuple(path.name for path in models.base_model_paths)
        self._namings: dict[str, Naming] = {}
        self.changes = Progress()
        """Counts the changes of the names."""

    @property
    def namings(self) -> Mapping[str, Naming]:
        """How each variant is served."""
        return self._namings

    @property
    def reasons(self) -> Mapping[str, str]:
        """Why a variant is unavailable, for each that is."""
        return {v: naming.reason for v, naming in self._namings.items() if naming.reason}

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
        """A number that no other adapter in vLLM has."""
        return self._models.lora_id_counter.inc(1)

    def serve_as_merged(self, variant: str) -> None:
        """Serve the variant with the merged weights alone."""
        self._set(variant, Naming())

    def serve_with_adapter(self, variant: str, adapter: vllm_models.Adapter) -> None:
        """Serve the variant with an adapter."""
        entry = adapter.lora_name, adapter.lora_int_id, adapter.lora_path
        self._set(variant, Naming(adapter=entry))

    def make_unavailable(self, variant: str, reason: str) -> None:
        """Stop serving the variant, for a reason."""
        self._set(variant, Naming(reason=reason))

    def remove(self, variant: str) -> None:
        """Remove the name of a variant that was deleted."""
        self._set(variant, None)

    def copy(self, namings: Mapping[str, Naming]) -> list[str]:
        """Serve as another process of the server does; returns the variants that changed."""
        variants = self._namings.keys() | namings.keys()
        changed = [v for v in variants if self._namings.get(v) != namings.get(v)]
        for variant in changed:
            self._set(variant, namings.get(variant))
        return changed

    def _set(self, variant: str, naming: Naming | None) -> None:
        self._clear(variant)
        if naming is not None:
            self._namings[variant] = naming
            self._enter(variant, naming)
        self.changes.advance(self.changes.revision + 1)

    def _enter(self, variant: str, naming: Naming) -> None:
        if naming.adapter is not None:
            name, number, path = naming.adapter
            adapter = vllm_models.adapter(name, number, path, self.served[0])
            for _, model in self._names(variant):
                self._models.lora_requests[model] = adapter
            return
        if naming.reason:
            return
        paths = {path.name: path for path in self._models.base_model_paths}
        for served, name in self._names(variant):
            alias = vllm_models.base_path(name, paths[served].model_path)
            self._models.base_model_paths.append(alias)

    def _clear(self, variant: str) -> None:
        self._namings.pop(variant, None)
        names = {name for _, name in self._names(variant)}
        paths = self._models.base_model_paths
        paths[:] = [path for path in paths if path.name not in names]
        for name in names:
            self._models.lora_requests.pop(name, None)

    def _names(self, variant: str) -> Iterator[tuple[str, str]]:
        for served in self.served:
            yield served, model_name(served, variant)
