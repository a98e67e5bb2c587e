"""vLLM's own OpenAI server, as ``vllm serve`` starts it."""

from argparse import ArgumentParser, Namespace
from typing import Any, Protocol

from vllm_edit.vllm_interface.symbol import Symbol

ENTRY_MODULE = "vllm.entrypoints.launchers.api_server.entry"
"""``python -m`` runs the server with it, without vLLM's command line."""


class _ServeSubcommand(Protocol):
    def cmd(self, args: Namespace) -> None: ...


class _MakeArgParser(Protocol):
    def __call__(self, parser: ArgumentParser) -> ArgumentParser: ...


class _EndpointPlugin(Protocol):
    name: str
    required_tasks: tuple[str, ...] | None

    def attach_router(self, app: Any) -> None: ...

    async def init_state(self, engine_client: Any, state: Any, args: Namespace) -> None: ...


class _ModelsState(Protocol):
    openai_serving_models: Any


class _CompletionState(Protocol):
    openai_serving_completion: Any


class _WithArgs(Protocol):
    def __call__(self, args: Namespace) -> object: ...


_CLI_ARGS = {(0, 33): "vllm.entrypoints.common.cli_args"}

ENTRY = Symbol(ENTRY_MODULE)
SERVE = Symbol("vllm.entrypoints.cli.serve", "ServeSubcommand", _ServeSubcommand)
PARSER = Symbol("vllm.utils.argparse_utils", "FlexibleArgumentParser")
MAKE_PARSER = Symbol(
    "vllm.entrypoints.launchers.cli_args", "make_arg_parser", _MakeArgParser, _CLI_ARGS
)
VALIDATE = Symbol(
    "vllm.entrypoints.launchers.cli_args", "validate_parsed_serve_args", _WithArgs, _CLI_ARGS
)
PREPARE = Symbol(
    "vllm.entrypoints.serve.utils.api_utils",
    "cli_env_setup",
    moved={(0, 33): "vllm.entrypoints.common.startup"},
)
PLUGIN = Symbol("vllm.plugins.endpoint_plugins.interface", "EndpointPlugin", _EndpointPlugin)
# They set what a plugin finds in the state of the application.
MODELS_STATE = Symbol(
    "vllm.entrypoints.launchers.api_server.app_state", "init_app_state", _ModelsState
)
COMPLETION_STATE = Symbol(
    "vllm.entrypoints.generate.api_router", "init_generate_state", _CompletionState
)
LOGGING = Symbol("vllm.logger", "configure_logging_from_args", _WithArgs)


def prepare() -> None:
    """Import the server and set the environment as vLLM's command line does."""
    SERVE.load()
    PREPARE.load()()


def make_parser(program: str) -> ArgumentParser:
    """A parser of the flags of ``vllm serve``."""
    parser: ArgumentParser = MAKE_PARSER.load()(PARSER.load()(prog=program))
    return parser


def check(args: Namespace) -> None:
    """Set up vLLM's logging by the arguments, and end with a message if they do not fit."""
    LOGGING.load()(args)
    VALIDATE.load()(args)


def serve(args: Namespace) -> None:
    """Serve until stopped."""
    command: Any = SERVE.load()
    command.cmd(args)
