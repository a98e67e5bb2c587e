"""``vllm-edit serve``: vLLM's own OpenAI server with our plugin in it."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points

from vllm_edit import factworld
from vllm_edit.domain.errors import EditError
from vllm_edit.settings import add_flags, flags_to_environment, keep_hash_only
from vllm_edit.vllm_interface import launch
from vllm_edit.vllm_interface.supported import require_supported

PLUGIN = "vllm_edit"

PLUGIN_GROUPS = (
    "vllm.general_plugins",
    "vllm.platform_plugins",
    "vllm.io_processor_plugins",
    "vllm.stat_logger_plugins",
)
"""Groups that vLLM loads whole while VLLM_PLUGINS is not set."""

FACTWORLD_FLAGS = (
    "--served-model-name=factworld",
    "--host=127.0.0.1",
    "--dtype=float32",
    "--enforce-eager",
    "--kv-cache-memory-bytes=268435456",
)
"""What suits the bundled model on a small machine; any of it can be given differently."""

FACTWORLD_SETTINGS = {
    "VLLM_EDIT_EDITOR": "eager",
    "VLLM_EDIT_SCOPE_THRESHOLD": "0.3",
    "VLLM_EDIT_DEMONSTRATION_COUNT": "2",
}
"""The like for edits. The bundled model leaves facts aside that do not answer the question, so
its scope can be wide; more demonstrations distract it."""


def serve(argv: Sequence[str]) -> int:
    """Serve until stopped. With no model, serves factworld.

    ``argv`` holds any flags of ``vllm serve`` and the ``--edit-*`` flags.
    """
    _require_installed()
    os.environ["VLLM_PLUGINS"] = _plugins(os.environ.get("VLLM_PLUGINS"))
    try:
        require_supported()
        # vLLM is imported only now: importing it reads its environment and takes seconds.
        launch.prepare()
        args = _parse(argv)
        os.environ.update(flags_to_environment(args))
        launch.check(args)
        keep_hash_only()
        launch.serve(args)
    except EditError as error:
        print(f"vllm-edit: {error.message}", file=sys.stderr)
        return 1
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments as ``vllm serve`` has them; without a model, those for factworld."""
    parser = launch.make_parser("vllm-edit serve")
    add_flags(parser)
    args = parser.parse_args(list(argv))
    if args.model_tag is None and not _names_a_model(argv):
        os.environ.update(FACTWORLD_SETTINGS | os.environ)
        args = parser.parse_args([str(factworld.checkpoint()), *FACTWORLD_FLAGS, *argv])
    if args.model_tag is not None:
        args.model = args.model_tag
    return args


def _require_installed() -> None:
    """Load the plugin once here: vLLM only logs one that it cannot load, and serves without it."""
    points = {point.name: point for point in entry_points(group="vllm.endpoint_plugins")}
    if PLUGIN not in points:
        raise SystemExit("vllm-edit: not installed as a package; run: pip install -e .")
    points[PLUGIN].load()


def _plugins(chosen: str | None) -> str:
    """VLLM_PLUGINS with our plugin named; unset, with every plugin that vLLM would load."""
    if chosen is None:
        names = {point.name for group in PLUGIN_GROUPS for point in entry_points(group=group)}
    else:
        names = {name for name in chosen.split(",") if name}
    return ",".join(sorted(names | {PLUGIN}))


def _names_a_model(argv: Sequence[str]) -> bool:
    return any(item.split("=")[0] in ("--model", "--config") for item in argv)
