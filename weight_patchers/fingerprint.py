"""The identity of a base model, by its content."""

import hashlib
import json
from pathlib import Path
from typing import Any

from weight_patchers.errors import UnreadableCheckpoint

# Keys of config.json that change when the same model is saved again.
_VOLATILE = frozenset({"transformers_version", "_name_or_path"})


def fingerprint(folder: Path) -> str:
    """SHA-256 (64 hex digits) over the weights' files and the config of a checkpoint folder.

    Two folders have the same fingerprint when their safetensors files and configs have the same
    content, wherever they lie. Reads every byte of the weights: keep the result.
    Raises UnreadableCheckpoint when the folder has no config.json or no safetensors.
    """
    config = _config(folder)
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for path in weight_files(folder):
        with path.open("rb") as file:
            part = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"\n{path.name} {part}".encode())
    return digest.hexdigest()


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that hold the model's weights, sorted by name."""
    index = folder / "model.safetensors.index.json"
    single = folder / "model.safetensors"
    if index.is_file():
        shards = sorted(set(_read_json(index).get("weight_map", {}).values()))
        files = [folder / str(name) for name in shards]
    elif single.is_file():
        files = [single]
    else:
        files = sorted(folder.glob("*.safetensors"))
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        raise UnreadableCheckpoint(f"{folder} lacks {', '.join(missing)}: download it again")
    if not files:
        raise UnreadableCheckpoint(
            f"{folder} has no safetensors weights: save the model with "
            "save_pretrained(folder, safe_serialization=True) and name that folder"
        )
    return files


def _config(folder: Path) -> dict[str, object]:
    path = folder / "config.json"
    if not path.is_file():
        raise UnreadableCheckpoint(
            f"{folder} has no config.json: name the folder of a Hugging Face checkpoint"
        )
    return {key: value for key, value in _read_json(path).items() if key not in _VOLATILE}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UnreadableCheckpoint(f"{path} is not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise UnreadableCheckpoint(f"{path} does not hold a JSON object")
    return value
