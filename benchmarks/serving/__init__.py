"""What edits cost a server's requests, beside plain vLLM: `python -m benchmarks serving`."""

from benchmarks.serving.command import add_parser

__all__ = ["add_parser"]
