"""Whether edits are told, and what becomes of those that are not, on a real ledger."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from tests.leading import leading
from tests.service.steered import Steered
from vllm_edit.domain.edit import Edit, EditRequest, Status
from vllm_edit.domain.errors import NotTold, Unavailable, VariantUnavailable
from vllm_edit.domain.own_answers import OwnAnswer, OwnAnswers
from vllm_edit.ledger import Ledger
from vllm_edit.probes.teller import MORE_TOKENS, Teller
from vllm_edit.service.commands import ActivateSet, CreateSet, DeleteSet
from vllm_edit.service.telling import MOST_AT_ONCE


def request(subject: str, target: str = "Y", method: str = "single", **more: object) -> EditRequest:
    return EditRequest(method, f"{subject} is", subject, target, **more)  # type: ignore[arg-type]


class Model:
    """Says of each subject what the edits in effect say, but for what is steered."""

    chats = True

    def __init__(self, method: Steered) -> None:
        self._method = method
        self.wrong: dict[str, str] = {}
        self.spoilt: dict[str, str] = {}
        self.silent: set[str] = set()
        self.hidden: set[str] = set()
        self.asked: list[tuple[str, str]] = []
        self.room: list[int] = []

    async def complete(self, variant: str, prompt: str, max_tokens: int) -> str:
        self.asked.append((variant, prompt))
        self.room.append(max_tokens)
        await asyncio.sleep(0)
        if variant in self.hidden:
            raise VariantUnavailable("Not here.")
        if prompt in self.silent:
            raise Unavailable("It is silent.")
        edits = [self._method.known[i] for i in self._method.seen.get(variant, [])]
        about = {edit.request.prompt: edit.request.target_new for edit in edits}
        for cause, spoilt in self.spoilt.items():
            if cause in about and spoilt == prompt:
                return " nothing."
        return self.wrong.get(prompt) or f" {about.get(prompt, 'unknown')}."

    async def chat(self, variant: str, prompt: str, max_tokens: int) -> str:
        self.room.append(max_tokens)
        return f"{prompt}{await self.complete(variant, prompt, max_tokens)}"


@pytest.fixture
def method() -> Steered:
    return Steered()


@pytest.fixture
def model(method: Steered) -> Model:
    return Model(method)


@pytest.fixture
def teller(model: Model) -> Teller:
    return Teller(model, len)


async def settled(good: Callable[[], bool]) -> None:
    """Return when what is done in the background has made it so."""
    async with asyncio.timeout(10):
        while not good():  # noqa: ASYNC110 - nothing tells when an answer is known
            await asyncio.sleep(0)


def not_told() -> float:
    return REGISTRY.get_sample_value("vllm_edit_not_told", {"method": "single"}) or 0.0


def answers_of(edit: Edit) -> Sequence[OwnAnswer | None]:
    assert edit.told is not None
    return edit.told.bare, edit.told.chat


async def test_an_active_edit_shows_what_the_server_answers(
    path: Path, method: Steered, model: Model, teller: Teller
) -> None:
    async with leading(path, method, teller=teller) as service:
        (edit,) = await service.submit([request("A")], wait=True)
        bare, chat = OwnAnswer(" Y.", begins=True), OwnAnswer("A is Y.", begins=True)
        assert edit.told == OwnAnswers("default", method.revisions[-1], bare, chat)
        assert service.told(edit.id) == edit.told
        assert service.warnings(edit.id) == []
        target = len(" Y") + MORE_TOKENS
        assert [*dict.fromkeys(model.room)] == [target, target + len("A is")]
        model.asked.clear()
    again = Steered()
    async with leading(path, again, teller=Teller(Model(again), len)) as service:
        assert service.edits() == [edit]
        assert service.told(edit.id) == edit.told
    assert model.asked == []


async def test_an_edit_that_is_not_told_is_taken_back(
    path: Path, method: Steered, model: Model, teller: Teller
) -> None:
    model.wrong["A is"] = " Yonder."
    async with leading(path, method, teller=teller) as service:
        (before,) = await service.submit([request("A", "Yonder")], wait=True)
        (edit,) = await service.submit([request("A")], wait=True)
        assert edit.status is Status.FAILED
        assert edit.failure is not None
        assert edit.failure.code == "not_told"
        assert "asked 'A is', the server answers 'Yonder.'" in edit.failure.message
        assert "does not begin with 'Y'." in edit.failure.message
        assert '"keep": true' in edit.failure.message
        assert answers_of(edit)[0] == OwnAnswer(" Yonder.", begins=False)
        assert (method.effective, method.forgotten) == ([before.id], [edit.id])
        assert len(set(method.revisions)) == 3
        assert service.get(before.id).status is Status.ACTIVE
    with Ledger(path) as ledger:
        assert ledger.get(edit.id) == edit


async def test_an_edit_that_is_kept_stays_with_a_warning(
    path: Path, method: Steered, model: Model, teller: Teller
) -> None:
    model.wrong["A is"] = " no."
    count = not_told()
    async with leading(path, method, teller=teller) as service:
        (edit,) = await service.submit([request("A", keep=True)], wait=True)
        assert (edit.status, edit.request.keep) == (Status.ACTIVE, True)
        assert not_told() == count + 1
        (warning,) = service.warnings(edit.id)
        assert warning.startswith("It is not told: asked 'A is', the server answers 'no.'")
        await service.roll_back(edit.id)
        assert not_told() == count
        assert service.warnings(edit.id) == []


async def test_of_a_batch_those_that_are_told_stay(
    path: Path, method: Steered, model: Model, teller: Teller
) -> None:
    model.wrong["B is"] = " no."
    posted = [request(name, method="batch") for name in "ABC"]
    async with leading(path, method, teller=teller) as service:
        a, b, c = await service.submit(posted, wait=True)
        assert [edit.status for edit in (a, b, c)] == ["active", "failed", "active"]
        assert method.effective == [a.id, c.id]
        # They were computed anew without it.
        assert method.computed[-1] == [a.id, c.id]


async def test_of_single_edits_in_one_swap_each_is_tried_alone(
    path: Path, method: Steered, model: Model, teller: Teller
) -> None:
    """One is told once the edit that spoils it, itself not told, is gone."""
    model.wrong["A is"], model.spoilt["A is"] = " no.", "B is"
    async with leading(path, method, teller=teller) as service:
        a, b = await service.submit([request("A"), request("B")], wait=True)
        assert (a.status, b.status) == (Status.FAILED, Status.ACTIVE)
        assert method.effective == [b.id]


async def test_what_cannot_be_asked_in_time_is_not_told(
    path: Path, method: Steered, model: Model, teller: Teller
) -> None:
    model.silent.add("A is")
    async with leading(path, method, teller=teller) as service:
        (edit,) = await service.submit([request("A")], wait=True)
        assert edit.failure is not None
        assert edit.failure.code == "not_told"
        assert "'A is' could not be asked (It is silent)" in edit.failure.message


async def test_a_variant_that_nobody_can_ask_is_asked_in_default_traffic(
    path: Path, method: Steered, model: Model, teller: Teller
) -> None:
    model.hidden.add("news")
    async with leading(path, method, teller=teller) as service:
        await service.change_set(CreateSet("news"))
        (edit,) = await service.submit([request("A", edit_set="news")], wait=True)
        assert edit.told == OwnAnswers("news", method.revisions[-1], refused="Not here.")
        assert service.warnings(edit.id) == ["It could not be asked: Not here."]
        await service.change_set(ActivateSet("news", True))
        asked = service.told(edit.id)
        assert asked is not None
        assert (asked.variant, asked.begins) == ("default", True)


async def test_a_set_with_an_edit_that_default_traffic_is_not_told_is_not_active(
    path: Path, method: Steered, model: Model, teller: Teller
) -> None:
    async with leading(path, method, teller=teller) as service:
        await service.change_set(CreateSet("news"))
        (edit,) = await service.submit([request("A", edit_set="news")], wait=True)
        assert edit.told is not None
        assert edit.told.variant == "news"
        model.wrong["A is"] = " no."
        with pytest.raises(NotTold, match=f"'news' is not active: in default traffic {edit.id}"):
            await service.change_set(ActivateSet("news", True))
        assert not service.edit_set("news").active
        assert method.effective == []
        assert service.get(edit.id) == edit


async def test_a_later_edit_of_the_subject_has_the_earlier_one_asked_again(
    path: Path,
    method: Steered,
    model: Model,
    teller: Teller,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model.spoilt["B is"] = "A is"
    count = not_told()
    async with leading(path, method, teller=teller) as service:
        (a,) = await service.submit([request("A")], wait=True)
        (b,) = await service.submit([request("B")], wait=True)
        await settled(lambda: service.get(a.id).told != a.told)
        await service.reached(service.revision)
        told = service.told(a.id)
        assert told is not None
        assert (told.begins, told.revision) == (False, b.revision)
        assert service.get(a.id).status is Status.ACTIVE
        assert service.warnings(a.id)
        assert not_told() == count + 1
        assert f"{a.id} is no longer told: asked 'A is'" in caplog.text
        await service.roll_back(b.id)
        await settled(lambda: not_told() == count)
        assert service.told(a.id) == service.get(a.id).told
    with Ledger(path) as ledger:
        told = ledger.get(a.id).told
        assert told is not None
        assert told.begins


async def test_the_same_answer_is_not_recorded_again(
    path: Path, method: Steered, model: Model, teller: Teller
) -> None:
    async with leading(path, method, teller=teller) as service:
        (a,) = await service.submit([request("A")], wait=True)
        (b,) = await service.submit([request("B")], wait=True)
        await settled(lambda: service.told(a.id) != a.told)
        told = service.told(a.id)
        assert told is not None
        assert told.revision == service.revision == b.revision
        assert service.get(a.id) == a


async def test_at_most_so_many_are_asked_again_the_latest_first(
    path: Path, method: Steered, model: Model, teller: Teller
) -> None:
    async with leading(path, method, teller=teller, told_again=2) as service:
        edits = await service.submit([request(name) for name in "ABCD"], wait=True)
        model.asked.clear()
        (last,) = await service.submit([request("E")], wait=True)
        await settled(lambda: len(model.asked) == 6)
        asked = [prompt for _, prompt in model.asked][::2]
        assert asked == ["E is", "D is", "C is"]
        first, _, _, fourth = (service.told(edit.id) for edit in edits)
        assert first is not None
        assert fourth is not None
        assert first.revision < last.revision == fourth.revision


async def test_of_many_memory_edits_the_first_are_asked_at_once_and_the_others_later(
    path: Path, method: Steered, model: Model, teller: Teller
) -> None:
    method.queued = False
    names = [f"S{number}" for number in range(MOST_AT_ONCE + 2)]
    model.wrong["S0 is"] = model.wrong[f"{names[-1]} is"] = " no."
    async with leading(path, method, teller=teller, told_again=0) as service:
        edits = await service.submit([request(name) for name in names], wait=False)
        assert edits[0].status is Status.FAILED
        assert {edit.status for edit in edits[1:]} == {Status.ACTIVE}
        last = edits[-1].id
        await settled(lambda: service.get(last).told is not None)
        told = service.told(last)
        assert told is not None
        # It was acknowledged, so it stays.
        assert (told.begins, service.get(last).status) == (False, Status.ACTIVE)


async def test_edits_of_an_older_store_are_asked_when_the_server_starts(path: Path) -> None:
    first = Steered()
    async with leading(path, first) as service:
        (edit,) = await service.submit([request("A")], wait=True)
        assert edit.told is None
    again = Steered()
    async with leading(path, again, teller=Teller(Model(again), len)) as service:
        await settled(lambda: service.get(edit.id).told is not None)
        told = service.told(edit.id)
        assert told is not None
        assert told.begins


async def test_the_edits_of_a_deleted_set_are_not_asked_again(
    path: Path, method: Steered, model: Model, teller: Teller
) -> None:
    async with leading(path, method, teller=teller) as service:
        await service.change_set(CreateSet("news"))
        posted = [request("A", edit_set="news"), request("B")]
        _, b = await service.submit(posted, wait=True)
        await service.change_set(ActivateSet("news", True))
        model.asked.clear()
        gone = await service.change_set(DeleteSet("news"))
        await settled(lambda: (t := service.told(b.id)) is not None and t.revision == gone.revision)
        assert {prompt for _, prompt in model.asked} == {"B is"}


async def test_what_is_computed_again_at_a_start_waits_unless_it_is_told(path: Path) -> None:
    first = Steered()
    async with leading(path, first, teller=Teller(Model(first), len)) as service:
        good, bad, free = await service.submit(
            [request("A"), request("B"), request("C", keep=True)], wait=True
        )
        revision = service.revision
    again = Steered()
    again.renewed = [good.id, bad.id, free.id]
    model = Model(again)
    model.wrong = {"B is": " nothing.", "C is": " nothing."}
    async with leading(path, again, teller=Teller(model, len)) as service:
        assert again.effective == [good.id, free.id]
        assert [edit.status for edit in service.edits()] == [
            Status.ACTIVE,
            Status.WAITING,
            Status.ACTIVE,
        ]
        failure = service.get(bad.id).failure
        assert failure is not None
        assert failure.code == NotTold.code
        # Only what is new is recorded: that what was kept is not told any longer.
        assert service.revision == revision + 1
        assert service.warnings(free.id)
        assert not service.warnings(bad.id)
