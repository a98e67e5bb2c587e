"""What edits are judged by, and what becomes of those that fall short, on a real ledger."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.leading import leading
from tests.service.steered import Steered
from vllm_edit.domain.edit import Edit, EditRequest, Status
from vllm_edit.domain.errors import InvalidEdit, ProbesFailed, Unavailable
from vllm_edit.domain.probe import Probes, Score, Scores
from vllm_edit.ledger import Ledger
from vllm_edit.probes.gate import Answers, Baseline, ProbeGate
from vllm_edit.probes.made_probes import PREFIXES
from vllm_edit.service.commands import ActivateSet, CreateSet

CONTROL = "The opposite of hot is"
MADE = Probes(made=True)


def request(fact: str, probes: Probes | None = MADE, **more: str) -> EditRequest:
    """An edit of a subject of its own, so that it is others' neighbour."""
    subject = fact.title()
    return EditRequest("single", f"{subject} is", subject, "Y", probes=probes, **more)


class World:
    """A model that says of each fact what the edits in effect say, but for what is steered."""

    def __init__(self, method: Steered) -> None:
        self._method = method
        self.wrong: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        self.unsteady: set[str] = set()
        self.silent = False
        self.asked: list[tuple[str, list[str]]] = []

    async def ask(self, variant: str, prompts: Sequence[str]) -> Answers:
        self.asked.append((variant, [*prompts]))
        if self.silent:
            raise Unavailable("The model is silent.")
        known = [self._method.known[i] for i in self._method.seen.get(variant, [])]
        texts = {p: self._answer(p, known) for p in prompts if p not in self.refused}
        return Answers(texts, {p: self.refused[p] for p in prompts if p in self.refused})

    def _answer(self, prompt: str, known: Sequence[Edit]) -> str:
        if prompt in self.unsteady:
            return f" {len(self.asked)}."
        about = {edit.request.subject: edit.request.target_new for edit in known}
        if prompt in self.wrong and about:
            return self.wrong[prompt]
        return next((f" {y}." for x, y in about.items() if x in prompt), " unknown.")


@pytest.fixture
def method() -> Steered:
    return Steered()


@pytest.fixture
def world(method: Steered) -> World:
    return World(method)


@pytest.fixture
def gate(world: World) -> ProbeGate:
    return ProbeGate(world, [CONTROL])


def values(edit: Edit) -> Mapping[tuple[str, bool], float]:
    return {(score.measure, score.made): score.value for score in edit.scores}


def why(edit: Edit) -> str:
    assert edit.failure is not None
    assert edit.failure.code == "probes_failed"
    return edit.failure.message


async def test_an_edit_without_probes_is_not_asked_about(
    path: Path, method: Steered, world: World, gate: ProbeGate
) -> None:
    async with leading(path, method, gate=gate) as service:
        (edit,) = await service.submit([request("anthem", None)], wait=True)
        assert (edit.status, edit.scores, world.asked) == (Status.ACTIVE, (), [])


async def test_made_probes_are_rephrasings_controls_and_neighbours(
    path: Path, method: Steered, world: World, gate: ProbeGate
) -> None:
    async with leading(path, method, gate=gate) as service:
        await service.submit([request("river", None)], wait=True)
        (edit,) = await service.submit([request("anthem")], wait=True)
        assert values(edit) == {
            ("reliability", False): 1.0,
            ("generalization", True): 1.0,
            ("locality", True): 1.0,
        }
        before, again, after = world.asked
        assert before == again == ("default", [CONTROL, "River is"])
        rephrased = [prefix + "Anthem is" for prefix in PREFIXES]
        assert after == ("default", ["Anthem is", *rephrased, CONTROL, "River is"])


@pytest.mark.parametrize("exact", [False, True])
async def test_an_answer_that_goes_on_is_right_unless_it_must_end(
    path: Path, method: Steered, world: World, gate: ProbeGate, exact: bool
) -> None:
    world.wrong["Anthem is"] = " Y and the river of Z is"
    async with leading(path, method, gate=gate) as service:
        (edit,) = await service.submit([request("anthem", Probes(exact=exact))], wait=True)
        assert values(edit) == {("reliability", False): float(not exact)}
        assert edit.status is (Status.FAILED if exact else Status.ACTIVE)
        assert edit.request.probes == Probes(exact=exact)


@pytest.mark.parametrize(
    ("probes", "prompt", "answer", "reason"),
    [
        (Probes(), "Anthem is", " X.", "'Anthem is' should be answered 'Y' and was 'X.'"),
        (Probes(("Of Anthem:",)), "Of Anthem:", " X.", "generalization of the edit's probes is 0"),
        (Probes((), ("Q is",)), "Q is", " X.", "'Q is' was answered 'unknown.', and with it 'X.'"),
        (MADE, CONTROL, " X.", "The locality of made probes is 0.00 (0 of 1), and at least 0.90"),
    ],
)
async def test_an_edit_that_falls_short_is_taken_back(
    path: Path,
    method: Steered,
    world: World,
    gate: ProbeGate,
    probes: Probes,
    prompt: str,
    answer: str,
    reason: str,
) -> None:
    world.wrong[prompt] = answer
    async with leading(path, method, gate=gate) as service:
        (edit,) = await service.submit([request("anthem", probes)], wait=True)
        assert edit.status is Status.FAILED
        assert reason in why(edit)
        assert [score.passed for score in edit.scores].count(False) == 1
        assert (method.effective, method.forgotten) == ([], [edit.id])
        # It came and went under revisions of their own.
        assert len(set(method.revisions)) == 2
    with Ledger(path) as ledger:
        assert ledger.get(edit.id) == edit


@pytest.mark.parametrize("others", [(), ("Q is",)])
async def test_what_the_base_answers_in_two_ways_is_not_held_against_an_edit(
    path: Path, method: Steered, world: World, gate: ProbeGate, others: tuple[str, ...]
) -> None:
    world.unsteady = {"Road is"}
    probes = Probes(unchanged=("Road is", *others), locality=1.0)
    async with leading(path, method, gate=gate) as service:
        (edit,) = await service.submit([request("anthem", probes)], wait=True)
        assert edit.status is Status.ACTIVE
        assert edit.scores[1] == Score("locality", False, len(others), 1.0, 1.0, unsteady=1)
    with Ledger(path) as ledger:
        assert ledger.get(edit.id) == edit


async def test_what_it_superseded_is_in_effect_again(
    path: Path, method: Steered, world: World, gate: ProbeGate
) -> None:
    async with leading(path, method, gate=gate) as service:
        (first,) = await service.submit([request("anthem")], wait=True)
        world.wrong["Anthem is"] = " Z."
        later = replace(request("anthem"), target_new="W")
        (second,) = await service.submit([later], wait=True)
        assert second.status is Status.FAILED
        assert service.get(first.id) == first
        assert method.effective == [first.id]


async def test_others_that_came_with_it_stay(
    path: Path, method: Steered, world: World, gate: ProbeGate
) -> None:
    """Those of a batch without the one at fault; others are tried apart from it."""
    world.wrong["Anthem is"] = " X."
    batch = [replace(request(fact), method="batch") for fact in ("river", "anthem", "flag")]
    singles = [request(fact) for fact in ("road", "anthem", "wall")]
    async with leading(path, method, gate=gate) as service:
        for requests in (batch, singles):
            edits = await service.submit(requests, wait=True)
            good, bad, other = edits
            assert [e.status for e in edits] == [Status.ACTIVE, Status.FAILED, Status.ACTIVE]
            assert why(bad).startswith("The reliability of the edit's own prompt")
            assert {good.id, other.id} <= {*method.effective}
            assert bad.id not in method.effective


async def test_what_another_edit_changes_is_not_held_against_an_edit(
    path: Path, method: Steered, gate: ProbeGate
) -> None:
    """They are posted together, but only one batch has to get along with itself."""
    kept = request("anthem", Probes((), ("River is",)))
    async with leading(path, method, gate=gate) as service:
        edits = await service.submit([kept, request("river")], wait=True)
        assert [edit.status for edit in edits] == [Status.ACTIVE, Status.ACTIVE]


async def test_a_model_that_does_not_answer_fails_the_edit(
    path: Path, method: Steered, world: World, gate: ProbeGate
) -> None:
    world.silent = True
    async with leading(path, method, gate=gate) as service:
        edits = await service.submit([request("anthem"), request("river")], wait=True)
        assert [edit.status for edit in edits] == [Status.FAILED] * 2
        assert why(edits[0]) == "Its probes were not answered: The model is silent."
        assert method.effective == []
        world.silent, world.refused = False, {"Anthem is": "too long"}
        (edit,) = await service.submit([request("anthem")], wait=True)
        assert "'Anthem is' could not be asked (too long)" in why(edit)


async def test_an_edit_that_cannot_be_taken_back_is_in_effect(
    path: Path, method: Steered, world: World, gate: ProbeGate
) -> None:
    world.wrong["Anthem is"] = " X."

    class Stuck(ProbeGate):
        async def judge(self, baseline: Baseline) -> Scores:
            method.broken = True
            return await super().judge(baseline)

    async with leading(path, method, gate=Stuck(world)) as service:
        (edit,) = await service.submit([request("anthem")], wait=True)
        assert (edit.status, method.effective) == (Status.ACTIVE, [edit.id])
        assert values(edit)["reliability", False] == 0.0


async def test_a_set_and_the_server_have_probes_for_edits_that_bring_none(
    path: Path, method: Steered, world: World, gate: ProbeGate
) -> None:
    server, of_set, own = Probes(locality=0.1), Probes(locality=0.2), Probes(locality=0.3)
    async with leading(path, method, gate=gate, probes=server) as service:
        await service.change_set(CreateSet("news", probes=of_set))
        await service.change_set(CreateSet("plain"))
        posted = [
            request("a", None),
            request("b", None, edit_set="news"),
            request("c", None, edit_set="plain"),
            request("d", own, edit_set="news"),
        ]
        edits = await service.submit(posted, wait=True)
        assert [edit.request.probes for edit in edits] == [server, of_set, server, own]
        assert {variant for variant, _ in world.asked} == {"default", "news", "plain"}
        with pytest.raises(InvalidEdit) as refused:
            await service.change_set(CreateSet("bad", probes=Probes(unchanged=("\0",))))
        assert refused.value.field == "probes.unchanged"
    again = Steered()
    async with leading(path, again, gate=ProbeGate(World(again))) as service:
        assert service.edit_set("news").probes == of_set
        assert service.edits() == edits


async def test_a_set_is_judged_again_in_default_traffic(
    path: Path, method: Steered, world: World, gate: ProbeGate
) -> None:
    """What one of its edits changes is not held against another, nor asked of those without."""
    posted = [
        request("anthem", Probes((), ("River is", "Road is")), edit_set="news"),
        request("river", edit_set="news"),
        request("road", None, edit_set="news"),
    ]
    async with leading(path, method, gate=gate) as service:
        await service.change_set(CreateSet("news"))
        edits = [(await service.submit([one], wait=True))[0] for one in posted]
        world.asked.clear()
        assert (await service.change_set(ActivateSet("news", True))).active
        assert method.seen["default"] == [edit.id for edit in edits]
        variants = [variant for variant, _ in world.asked]
        assert variants == ["default", "default", "news", "default"]
        before, again, elsewhere, after = (prompts for _, prompts in world.asked)
        assert before == again == ["River is", "Road is", CONTROL]
        assert elsewhere == ["River is", "Road is"]
        assert {"Anthem is", *before} <= {*after}
        world.asked.clear()
        await service.change_set(ActivateSet("news", False))
        assert world.asked == []


async def test_a_set_that_falls_short_in_default_traffic_is_not_active(
    path: Path, method: Steered, world: World, gate: ProbeGate
) -> None:
    async with leading(path, method, gate=gate) as service:
        await service.change_set(CreateSet("news"))
        (edit,) = await service.submit([request("anthem", edit_set="news")], wait=True)
        world.wrong[CONTROL] = " X."
        with pytest.raises(ProbesFailed) as refused:
            await service.change_set(ActivateSet("news", True))
        assert f"in default traffic {edit.id} falls short. The locality" in str(refused.value)
        assert method.seen == {"base": [], "news": [edit.id], "default": []}
        assert not service.edit_set("news").active
        assert service.get(edit.id) == edit
        world.silent = True
        with pytest.raises(ProbesFailed, match="were not answered: The model is silent"):
            await service.change_set(ActivateSet("news", True))
        world.silent, world.wrong = False, {}
        assert (await service.change_set(ActivateSet("news", True))).active


async def test_a_set_that_was_not_judged_to_its_end_is_not_active_at_the_next_start(
    path: Path, method: Steered, world: World
) -> None:
    class KilledError(BaseException):
        pass

    class Judge(ProbeGate):
        async def judge(self, baseline: Baseline) -> Scores:
            if baseline.variant == "default":
                raise KilledError
            return await super().judge(baseline)

    async with leading(path, method, gate=Judge(world)) as service:
        await service.change_set(CreateSet("news"))
        (edit,) = await service.submit([request("anthem", edit_set="news")], wait=True)
        with pytest.raises(KilledError):
            await service.change_set(ActivateSet("news", True))
        assert method.seen["default"] == [edit.id]
    async with leading(path, again := Steered()) as service:
        assert not service.edit_set("news").active
        assert again.seen == {"base": [], "news": [edit.id], "default": []}


async def test_an_edit_left_unfinished_is_judged_at_the_next_start(
    path: Path, method: Steered, world: World, gate: ProbeGate
) -> None:
    method.may_compute.clear()
    async with leading(path, method, gate=gate) as service:
        posted = [request("anthem"), request("river")]
        edits = await service.submit(posted, wait=False)
        await method.computing.wait()
    again = Steered()
    after = World(again)
    after.wrong["River is"] = " X."
    async with leading(path, again, gate=ProbeGate(after)) as service:
        good, bad = (service.get(edit.id) for edit in edits)
        assert (good.status, bad.status) == (Status.ACTIVE, Status.FAILED)
        assert again.effective == [good.id]
        assert good.request.probes == MADE
        assert good.scores[0] == Score("reliability", False, 1, 1.0, 1.0)
