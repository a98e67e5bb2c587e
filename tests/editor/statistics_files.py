"""The files of key statistics, to see whether they were collected again."""

from pathlib import Path


def written(folder: Path) -> dict[str, int]:
    """When each file of the folder was written, in nanoseconds."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")}
