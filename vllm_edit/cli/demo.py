"""``vllm-edit demo``."""

import argparse
import sys
from typing import Any

from vllm_edit.cli.shared_arguments import add_admin_key, find_admin_key
from vllm_edit.domain.errors import EditError


def add_demo_parser(commands: Any) -> None:
    """Add the command to the subparsers of ``vllm-edit``."""
    parser = commands.add_parser(
        "demo",
        help="correct a fact in a running server, in memory and in the weights, and roll it back",
    )
    parser.add_argument(
        "--url", help="use this server, which must serve factworld (default: start one)"
    )
    parser.add_argument("--seed", type=int, default=0, help="which fact of factworld to correct")
    add_admin_key(parser)
    parser.set_defaults(func=_demo)


def _demo(options: argparse.Namespace) -> int:
    from vllm_edit.demo.scenario import run_demo

    try:
        key = find_admin_key(options.admin_key_file)
    except EditError as error:
        print(f"vllm-edit demo: {error.message}", file=sys.stderr)
        return 1
    return run_demo(options.url, options.seed, key)
