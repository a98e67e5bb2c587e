"""A vLLM server whose knowledge can be corrected while it serves."""

__version__ = "0.1.0"
