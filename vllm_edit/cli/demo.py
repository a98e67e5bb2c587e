"""``vllm-edit demo``."""

import argparse
from typing import Any


def add_demo_parser(commands: Any) -> None:
    """Add the command to the subparsers of ``vllm-edit``."""
    parser = commands.add_parser(
        "demo",
        help="correct a fact in a running server, in memory and in the weights, and take it back",
    )
    parser.add_argument("--url", help="use this server, which serves factworld, and start none")
    parser.add_argument("--seed", type=int, default=0, help="which fact of factworld to correct")
    parser.set_defaults(func=_demo)


def _demo(options: argparse.Namespace) -> int:
    from vllm_edit.demo.scenario import run_demo

    return run_demo(options.url, options.seed)
