"""The cost of edits for a server's requests against plain vLLM: `python -m benchmarks serving`."""

from benchmarks.serving.command import add_parser

__all__ = ["add_parser"]
