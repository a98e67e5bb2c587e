"""``vllm-edit world``: edit requests about the bundled world, as JSON."""

import argparse
import json
import sys

from vllm_edit import factworld
from vllm_edit.factworld.schemas import SCHEMAS


def add_world_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command, whose ``func`` takes the parsed namespace and returns the exit status."""
    parser = subparsers.add_parser(
        "world",
        help="print edit requests about the bundled world in a published schema",
        description=(
            "Print seeded edit requests about the bundled world, with their rephrasings, "
            "portability probes and locality probes, as a JSON list."
        ),
    )
    parser.add_argument(
        "--schema", choices=tuple(SCHEMAS), default="easyedit", help="default: %(default)s"
    )
    parser.add_argument("--n", type=int, default=10, help="how many edits (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.set_defaults(func=world)


def world(options: argparse.Namespace) -> int:
    """Print the requests; status 2 if the world has not that many."""
    try:
        records = factworld.requests(options.schema, options.n, options.seed)
    except ValueError as error:
        print(f"vllm-edit world: {error}", file=sys.stderr)
        return 2
    json.dump(records, sys.stdout, indent=2, ensure_ascii=False)
    print()
    return 0
