"""The delta file: tensors and a JSON header in one safetensors file."""

from weight_patchers.checked_file import FileKind, checksum
from weight_patchers.errors import CorruptDelta

FORMAT = 2

_KIND = FileKind("delta", FORMAT, CorruptDelta, "compute the edit again")

write = _KIND.write
read = _KIND.read

__all__ = ["FORMAT", "checksum", "read", "write"]
