"""``vllm-edit compare``: variants of a running server side by side."""

import argparse
from typing import Any

from vllm_edit.cli.run_command import run_command
from vllm_edit.cli.shared_arguments import add_admin_key, find_admin_key

_DESCRIPTION = """\
Ask several variants of a running server the same questions about the edits in DATA: default, base,
or edit sets that hold the same edits made by different methods. Print how well and how fast each
variant answers, and which one the figures favour. The server is not changed."""


def add_compare_parser(commands: Any) -> None:
    """Add the command to the subparsers of ``vllm-edit``."""
    parser = commands.add_parser(
        "compare",
        help="compare variants of a running server: quality and latency",
        description=_DESCRIPTION,
    )
    parser.add_argument(
        "variants", nargs="+", metavar="VARIANT", help="default, base or an edit set"
    )
    parser.add_argument("--url", required=True, help="URL of the server")
    parser.add_argument("--data", default="factworld", help="the edits, as in vllm-edit evaluate")
    parser.add_argument(
        "--edits", type=int, default=100, help="number of edits (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="chooses the edits (default: %(default)s)"
    )
    parser.add_argument(
        "--requests",
        type=int,
        default=100,
        help="timed requests of each kind (default: %(default)s)",
    )
    parser.add_argument(
        "--clients", type=int, default=2, help="clients at the same time (default: %(default)s)"
    )
    add_admin_key(parser)
    parser.set_defaults(func=compare)


def compare(options: argparse.Namespace) -> int:
    """Run it; status 1 with the reason if it fails."""
    return run_command("compare", lambda: print(_compare(options), end=""))


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
