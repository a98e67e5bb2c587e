"""The shipped classifier on published data, subjects that it was not trained on."""

from pathlib import Path

import pytest

from retriever import SentenceEncoder
from retriever.scope import shipped_classifier
from retriever.scope_training.evaluation import share
from retriever.scope_training.published import load_folder
from retriever.scope_training.run import Run, measure
from retriever.settings import DEFAULT_THRESHOLD

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="the published data are not beside the project")
def test_the_right_edits_are_found_and_others_left_alone(encoder: SentenceEncoder) -> None:
    run = Run(load_folder(DATA), encoder)
    _, outcomes = measure(run, shipped_classifier(), "test", 500)
    found = share(outcomes, "in_scope", DEFAULT_THRESHOLD)
    hard, easy = (share(outcomes, kind, DEFAULT_THRESHOLD) for kind in ("hard", "easy"))
    assert (found > 0.9, hard < 0.08, easy < 0.01) == (True, True, True), (found, hard, easy)
