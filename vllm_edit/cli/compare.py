"""``vllm-edit compare``: variants of a running server side by side."""

import argparse
import sys
from typing import Any

from vllm_edit.cli.arguments import add_admin_key, find_admin_key
from vllm_edit.domain.errors import EditError

_DESCRIPTION = """\
Ask variants of a running server (default, base or edit sets that hold the same edits in different
ways) the same questions about the edits in DATA, and print what they answer, how long it takes,
and which variant these figures speak for. Nothing is changed on the server."""


def add_compare_parser(commands: Any) -> None:
    """Add the command to the subparsers of ``vllm-edit``."""
    parser = commands.add_parser(
        "compare",
        help="variants of a running server side by side: quality and latency",
        description=_DESCRIPTION,
    )
    parser.add_argument("variants", nargs="+", metavar="VARIANT", help="default, base or a set")
    parser.add_argument("--url", required=True, help="of the server")
    parser.add_argument(
        "--data", default="factworld", help="the edits, as vllm-edit evaluate has them"
    )
    parser.add_argument("--edits", type=int, default=100, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="which (default: %(default)s)")
    parser.add_argument(
        "--requests", type=int, default=100, help="timed, of each kind (default: %(default)s)"
    )
    parser.add_argument("--clients", type=int, default=2, help="at once (default: %(default)s)")
    add_admin_key(parser)
    parser.set_defaults(func=compare)


def compare(options: argparse.Namespace) -> int:
    """Run it; status 1 with the reason if that cannot be."""
    try:
        print(_compare(options), end="")
    except EditError as error:
        print(f"vllm-edit compare: {error.message}", file=sys.stderr)
        return 1
    return 0


def _compare(options: argparse.Namespace) -> str:
    from tqdm import tqdm

    from vllm_edit.evaluation.comparison import Comparison
    from vllm_edit.evaluation.comparison_table import markdown
    from vllm_edit.evaluation.sample import draw
    from vllm_edit.evaluation.server_client import ServerClient
    from vllm_edit.evaluation.server_edits import served_model

    records = draw(options.data, options.edits, options.seed).records
    variants = list(dict.fromkeys(options.variants))
    comparison = Comparison(variants, records, options.seed, options.requests, options.clients)
    with (
        ServerClient(options.url, find_admin_key(options.admin_key_file)) as connection,
        tqdm(total=2 * len(variants) + 1, disable=None) as bar,
    ):
        model = served_model(connection).partition("@")[0]

        def step() -> None:
            bar.update()

        return markdown(comparison.run(connection, model, step))
