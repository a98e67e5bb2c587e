"""An edit of knowledge neurons over real HTTP: it names them, and is taken back exactly."""

import httpx

from tests.cases import Case, post, roll_back
from tests.crash.replay import digests


def test_an_edit_shows_its_neurons_and_is_taken_back_exactly(
    own: httpx.Client, facts: list[Case]
) -> None:
    base = digests(own)
    edits = [
        post(own, case.edit("kn", ground_truth=case.ground_truth, keep=True)) for case in facts[:2]
    ]
    assert digests(own) != base
    for edit in edits:
        shown = own.get(f"/v1/edits/{edit['id']}").json()
        places = [(neuron["layer"], neuron["index"]) for neuron in shown["neurons"]]
        assert len(set(places)) == len(places)
        assert all(0 <= layer < 6 and 0 <= index < 448 for layer, index in places)
        attributions = [neuron["attribution"] for neuron in shown["neurons"]]
        assert attributions == sorted(attributions, reverse=True)
    assert any(edit["neurons"] for edit in edits)
    for edit in edits:
        assert roll_back(own, edit)["neurons"] == []
    assert digests(own) == base
