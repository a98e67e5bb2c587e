"""Tensors and a JSON header in one safetensors file, with a checksum over both.

The header is the file's one metadata entry, named after the file's kind, with a SHA-256 checksum
over the tensors and the rest of it. Nothing in it is pickled.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor

from weight_patchers.errors import PatcherError


@dataclass(frozen=True)
class FileKind:
    """A kind of file: its name, its format version, and what is raised for a damaged one.

    `remedy` ends the messages: what to do when a file cannot be used.
    """

    name: str
    format: int
    error: type[PatcherError]
    remedy: str

    def write(self, path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
        """Write the file whole or not at all; it is on disk when this returns."""
        parts = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        content = {"format": self.format, **header}
        text = json.dumps(content | {"checksum": checksum(content, parts)}, sort_keys=True)
        write_atomically(path, serialize(parts, metadata={self.name: text}))

    def read(self, path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The tensors and the header, as written.

        Raises `error` when the file is damaged, of another kind, or of another format version.
        """
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                header = json.loads((file.metadata() or {})[self.name])
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise self.error(f"{path} is no readable {self.name} file ({error})") from error
        if not isinstance(header, dict):
            raise self.error(
                f"{path} is no readable {self.name} file (its header is no JSON object)"
            )
        if header.get("format") != self.format:
            raise self.error(
                f"{path} has {self.name} format {header.get('format')!r}, this version reads "
                f"{self.format}: {self.remedy}"
            )
        if header.pop("checksum", None) != checksum(header, tensors):
            raise self.error(f"the checksum of {path} is wrong: {self.remedy}")
        return tensors, header


def checksum(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of a header without its checksum and of contiguous tensors, in hexadecimal."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Write the file whole or not at all; it is on disk when this returns."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
