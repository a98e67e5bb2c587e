"""Runs the work of a command and turns its errors into an exit status."""

import sys
from collections.abc import Callable

from vllm_edit.domain.errors import EditError


def run_command(
    name: str,
    work: Callable[[], None],
    *,
    interrupted: str | None = None,
    more_errors: tuple[type[Exception], ...] = (),
) -> int:
    """0; or 1, with the reason on standard error, after an error of this project's packages.

    `more_errors` are treated like these. With `interrupted`, Ctrl-C prints that text and gives 130.
    """
    expected: tuple[type[Exception], ...] = (EditError, *more_errors)
    try:
        work()
    except KeyboardInterrupt:
        if interrupted is None:
            raise
        print(f"vllm-edit {name}: {interrupted}", file=sys.stderr)
        return 130
    except expected as error:
        print(f"vllm-edit {name}: {error}", file=sys.stderr)
        return 1
    return 0
