"""The command line: ``vllm-edit COMMAND``."""

import argparse
import sys
from collections.abc import Sequence

from vllm_edit import __version__


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the process's exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["serve"]:
        # Its flags are vLLM's own, which only vLLM's parser knows.
        from vllm_edit.cli.serve import serve

        return serve(arguments[1:])
    options = _parser().parse_args(arguments)
    status: int = options.func(options)
    return status


def _parser() -> argparse.ArgumentParser:
    from vllm_edit.cli.compare import add_compare_parser
    from vllm_edit.cli.demo import add_demo_parser
    from vllm_edit.cli.doctor import add_doctor_parser
    from vllm_edit.cli.evaluate import add_evaluate_parser
    from vllm_edit.cli.export import add_export_parser
    from vllm_edit.cli.scope import add_scope_parser
    from vllm_edit.cli.serac import add_serac_parser
    from vllm_edit.cli.stats import add_stats_parser
    from vllm_edit.cli.store import add_store_parser
    from vllm_edit.cli.train_editor import add_editor_parsers
    from vllm_edit.cli.tune import add_tune_parser
    from vllm_edit.cli.world import add_world_parser

    parser = argparse.ArgumentParser(prog="vllm-edit", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    commands.add_parser(
        "serve",
        help="serve a model with vLLM and take edits on /v1/edits",
        description="See vllm-edit serve --help.",
    )
    add_compare_parser(commands)
    add_demo_parser(commands)
    add_doctor_parser(commands)
    add_editor_parsers(commands)
    add_evaluate_parser(commands)
    add_export_parser(commands)
    add_scope_parser(commands)
    add_serac_parser(commands)
    add_stats_parser(commands)
    add_store_parser(commands)
    add_tune_parser(commands)
    add_world_parser(commands)
    return parser
