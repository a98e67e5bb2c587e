"""vLLM's registries of model names: each request finds in them what its client may see."""

from collections.abc import Iterator, MutableMapping, Sequence
from typing import overload

from vllm_edit.security.visibility import Views
from vllm_edit.vllm_interface.models import Adapter, BaseModelPath


class VisiblePaths(Sequence[BaseModelPath]):
    """The names of the served model, and those that variants have without an adapter."""

    def __init__(self, served: Sequence[BaseModelPath], views: Views) -> None:
        self._served = tuple(served)
        self._views = views
        self._variants: dict[str, tuple[str, BaseModelPath]] = {}

    def add(self, variant: str, path: BaseModelPath) -> None:
        """Add a name of a variant."""
        self._variants[path.name] = variant, path

    def remove(self, name: str) -> None:
        """Remove a variant's name, if it is there."""
        self._variants.pop(name, None)

    def __iter__(self) -> Iterator[BaseModelPath]:
        yield from self._served
        for variant, path in [*self._variants.values()]:
            if self._views.seen(variant):
                yield path

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @overload
    def __getitem__(self, index: int) -> BaseModelPath: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[BaseModelPath]: ...

    def __getitem__(self, index: int | slice) -> BaseModelPath | Sequence[BaseModelPath]:
        return [*self][index]


class VisibleAdapters(MutableMapping[str, Adapter]):
    """vLLM's own adapters by name, and those of variants.

    vLLM can neither replace nor remove a variant's: what it puts under the same name is not found.
    """

    def __init__(self, own: MutableMapping[str, Adapter], views: Views) -> None:
        self._own = own
        self._views = views
        self._variants: dict[str, tuple[str, Adapter]] = {}

    def add(self, variant: str, name: str, adapter: Adapter) -> None:
        """Add a name of a variant."""
        self._variants[name] = variant, adapter

    def remove(self, name: str) -> None:
        """Remove a variant's name, if it is there."""
        self._variants.pop(name, None)

    def __getitem__(self, name: str) -> Adapter:
        if name not in self._variants:
            return self._own[name]
        variant, adapter = self._variants[name]
        if not self._views.seen(variant):
            raise KeyError(name)
        return adapter

    def __setitem__(self, name: str, adapter: Adapter) -> None:
        self._own[name] = adapter

    def __delitem__(self, name: str) -> None:
        self._own.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        yield from [name for name in self._own if name not in self._variants]
        yield from [name for name, (v, _) in self._variants.items() if self._views.seen(v)]

    def __len__(self) -> int:
        return sum(1 for _ in self)
