"""Messages of the server, as text and as JSON."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from vllm_edit.domain.actor import Actor, acting
from vllm_edit.processes.server_logging import log_with_vllm

OWN, VLLM = logging.getLogger("vllm_edit"), logging.getLogger("vllm")


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Where vLLM's messages go."""
    stream = io.StringIO()
    before = OWN.handlers, OWN.level, OWN.propagate
    monkeypatch.setattr(VLLM, "handlers", [logging.StreamHandler(stream)])
    yield stream
    OWN.handlers, OWN.level, OWN.propagate = before


def test_text_is_as_vllms(stream: io.StringIO) -> None:
    log_with_vllm()
    OWN.warning("two\nlines")
    assert stream.getvalue() == "two\nlines\n"


def test_json_is_a_line_with_whoever_it_is_about(stream: io.StringIO) -> None:
    log_with_vllm("json")
    with acting(Actor("ann", "192.0.2.7", "r-1")):
        OWN.warning("%s\nlines", "two")
    try:
        int("no number")
    except ValueError:
        logging.getLogger("vllm_edit.service").exception("failed")
    first, second = map(json.loads, stream.getvalue().splitlines())
    moment = first.pop("time")
    assert moment.endswith("Z")
    assert first == {
        "level": "WARNING",
        "logger": "vllm_edit",
        "message": "two\nlines",
        "key": "ann",
        "client": "192.0.2.7",
        "request": "r-1",
    }
    assert second["logger"] == "vllm_edit.service"
    assert "ValueError: invalid literal" in second["error"]
