"""The base checkpoint's tensors as they lie on disk: the pristine weights."""

import json
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors import safe_open

from vllm_edit.domain.errors import Unavailable


def resolve(model: str, revision: str | None = None, cache: str | None = None) -> Path:
    """The local folder of a model that vLLM has already loaded, to ``cache`` or the hub's own.

    Raises:
        Unavailable: the model is neither a folder nor in the hub's local cache.
    """
    folder = Path(model)
    if folder.is_dir():
        return folder
    try:
        return Path(
            snapshot_download(model, revision=revision, cache_dir=cache, local_files_only=True)
        )
    except (LocalEntryNotFoundError, OSError, ValueError) as error:
        raise Unavailable(
            f"The checkpoint of {model!r} is not on this machine as a folder of safetensors files; "
            "weight edits need it. Serve a local folder, or a model from the hub's cache."
        ) from error


def find_weights(
    model: str, revision: str | None = None, cache: str | None = None
) -> tuple[Path, Unavailable | None]:
    """The folder of the safetensors files of a model that is served, or why there are none.

    ``cache`` is the folder that vLLM downloads to, if it is not the hub's own.
    """
    try:
        folder = resolve(model, revision, cache)
        _files_by_tensor(folder)
    except Unavailable as error:
        return Path(model), error
    return folder, None


class Checkpoint:
    """Reads single tensors of a safetensors checkpoint, sharded or not, on demand."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = _files_by_tensor(folder)

    def __contains__(self, name: str) -> bool:
        return self._stored(name) in self._files

    def tensor(self, name: str) -> torch.Tensor:
        """The tensor in its stored dtype and shape; raises Unavailable if there is none."""
        path, stored = self._locate(name)
        with safe_open(path, framework="pt") as file:
            tensor: torch.Tensor = file.get_tensor(stored)
        return tensor

    def shape(self, name: str) -> tuple[int, ...]:
        """The tensor's shape, without reading its values; raises Unavailable if there is none."""
        path, stored = self._locate(name)
        with safe_open(path, framework="pt") as file:
            return tuple(file.get_slice(stored).get_shape())

    def _locate(self, name: str) -> tuple[Path, str]:
        stored = self._stored(name)
        if stored not in self._files:
            raise Unavailable(
                f"{self._folder} holds no tensor named {name!r}, so an edit of it cannot be served."
            )
        return self._folder / self._files[stored], stored

    def _stored(self, name: str) -> str:
        """The tensor's name in the files.

        A checkpoint saved from a model without its head, like those of GPT-2 on the hub, names
        its tensors without the first part: `h.0…` for `transformer.h.0…`.
        """
        return name if name in self._files else name.partition(".")[2]


def _files_by_tensor(folder: Path) -> dict[str, str]:
    index = folder / "model.safetensors.index.json"
    if index.exists():
        weight_map: dict[str, str] = json.loads(index.read_text())["weight_map"]
        return weight_map
    single = folder / "model.safetensors"
    if not single.exists():
        raise Unavailable(f"{folder} has no safetensors weights; weight edits need them.")
    with safe_open(single, framework="pt") as file:
        return dict.fromkeys(file.keys(), single.name)
