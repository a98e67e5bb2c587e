"""The text that key statistics of a model are made from."""

import hashlib
from pathlib import Path

from vllm_edit.domain.errors import Unavailable
from weight_patchers.statistics.texts import COLUMN, Source, open_source


def corpus_for(model: Path, text: str | Path | None, column: str = COLUMN) -> Source:
    """The text that the user named, as `open_source` takes it, or, for factworld, its own.

    Raises Unavailable when there is none, and UnreadableText when the named one cannot be read.
    """
    if text is not None:
        return open_source(text, column)
    from vllm_edit import factworld

    if model.resolve() == factworld.checkpoint().resolve():
        digest = hashlib.sha256("\n".join(factworld.corpus()).encode()).hexdigest()
        return Source(f"factworld-{digest[:16]}", factworld.corpus)
    raise Unavailable(
        "Weight edits need statistics of this model, made from a text: start the server with "
        "--edit-statistics-text FILE, any plain text in the model's languages, or make them "
        "beforehand with vllm-edit stats MODEL --text FILE --output STORE/statistics.",
        code="no_statistics_text",
    )
