"""Writes the results of measurements."""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add `--output` to a measurement's command line."""
    parser.add_argument("--output", type=Path, help="JSON file for the result")


def write(result: Mapping[str, Any], output: Path | None, name: str) -> None:
    """Print the result and write it to `output`, or to `name` among the committed results."""
    text = json.dumps(result, indent=2) + "\n"
    sys.stdout.write(text)
    file = output or RESULTS / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
