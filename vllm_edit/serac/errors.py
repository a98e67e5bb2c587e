"""Errors for a counterfactual model that does not answer."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from vllm_edit.domain.errors import CounterfactualFailed, CounterfactualUnavailable, EditError

_BUSY = frozenset({429, 503})


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn errors of httpx into EditErrors."""
    try:
        yield
    except httpx.TimeoutException as error:
        raise CounterfactualUnavailable(
            "The counterfactual model did not answer in time: ask again, or raise "
            "--edit-serac-timeout.",
            code="counterfactual_timeout",
        ) from error
    except httpx.TransportError as error:
        raise CounterfactualUnavailable(
            "The counterfactual model cannot be reached or broke off its answer: ask again, and "
            "see whether its server runs.",
            code="counterfactual_unreachable",
        ) from error
    except httpx.DecodingError as error:
        raise unreadable_answer() from error


def error_for_status(status: int) -> EditError:
    """The error for an HTTP status. It leaves out the body, which may hold secrets."""
    if status in _BUSY:
        return CounterfactualUnavailable(
            f"The counterfactual model is too busy (HTTP {status}): ask again later.",
            code="counterfactual_busy",
        )
    return CounterfactualFailed(
        f"The counterfactual model's server answered HTTP {status}: check --edit-serac-url, "
        "--edit-serac-name and --edit-serac-key-file."
    )


def unreadable_answer() -> CounterfactualFailed:
    """The error for an answer that OpenAI's API does not have."""
    return CounterfactualFailed(
        "The counterfactual model's server sent what is no answer of OpenAI's API: check "
        "--edit-serac-url.",
        code="counterfactual_unreadable",
    )
