"""The model names by which vLLM knows the variants."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from vllm_edit.domain.variant import SEPARATOR, model_name
from vllm_edit.engine.progress import Progress
from vllm_edit.engine.visible_names import VisibleAdapters, VisiblePaths
from vllm_edit.security.visibility import Views
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
    reason, and vLLM knows no such model. Nor does it for a request that does not see the variant,
    whatever its body looks like and wherever in it the name is.
    """

    def __init__(
        self,
        models: vllm_models.ServedModels,
        views: Views,
        ended: Callable[[str], None] = lambda _variant: None,
    ) -> None:
        """``ended`` is called with each variant that is removed."""
        self._models = models
        self._views = views
        self._ended = ended
        served = {path.name: path.model_path for path in models.base_model_paths}
        self.served = tuple(served)
        self._model_paths = served
        self._paths = VisiblePaths(models.base_model_paths, views)
        self._adapters = VisibleAdapters(models.lora_requests, views)
        models.base_model_paths = models.registry.base_model_paths = self._paths
        models.lora_requests = self._adapters
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
        """The names under which vLLM finds the models that it lists now, in its order."""
        return [*(path.name for path in self._paths), *self._adapters]

    def variant_of(self, name: str) -> str | None:
        """The variant in a model name, if it is one of these."""
        for served in self.served:
            if name.startswith(served + SEPARATOR):
                return name[len(served + SEPARATOR) :]
        return None

    def new_number(self) -> int:
        """A number that no other adapter in vLLM has."""
        return self._models.lora_id_counter.inc(1)

    def adapter_name(self, variant: str, number: int) -> str:
        """A name that no other adapter in vLLM has.

        vLLM shows it to everybody, on `/metrics`, so that of a tenant's variant does not say whose
        it is.
        """
        served = self.served[0]
        shown = model_name(served, variant) if self._views.public(variant) else served
        return f"{shown}.{number}"

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
        if naming is None:
            self._ended(variant)
        else:
            self._namings[variant] = naming
            self._enter(variant, naming)
        self.changes.advance(self.changes.revision + 1)

    def _enter(self, variant: str, naming: Naming) -> None:
        if naming.reason:
            return
        for served, name in self._names(variant):
            if naming.adapter is None:
                path = vllm_models.base_path(name, self._model_paths[served])
                self._paths.add(variant, path)
            else:
                adapter = vllm_models.adapter(*naming.adapter, self.served[0])
                self._adapters.add(variant, name, adapter)

    def _clear(self, variant: str) -> None:
        self._namings.pop(variant, None)
        for _, name in self._names(variant):
            self._paths.remove(name)
            self._adapters.remove(name)

    def _names(self, variant: str) -> Iterator[tuple[str, str]]:
        for served in self.served:
            yield served, model_name(served, variant)
