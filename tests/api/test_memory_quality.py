"""200 memory edits at once, judged by the answers that the server generates."""

import asyncio
import random
from collections.abc import Iterable, Sequence

import httpx
import pytest

from tests.asking import completions
from tests.factworld.editing import Case, cases
from vllm_edit import factworld
from vllm_edit.factworld.protocol import fill
from vllm_edit.factworld.wordings import BY_NAME
from vllm_edit.factworld.world import World, WorldFact
from vllm_edit.processes.server import ServerProcess

EDITS = 200
PROMPTS = 200

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def world() -> World:
    return factworld.build_world()


@pytest.fixture(scope="module")
def chosen(world: World) -> list[Case]:
    return cases(world, EDITS)


def prompts_about(facts: Iterable[WorldFact], rng: random.Random) -> list[str]:
    """Prompts for some of the facts, in trained wordings."""
    some = rng.sample(sorted(facts, key=str), PROMPTS)
    return [fill(rng.choice(BY_NAME[fact.relation].trained), fact.subject) for fact in some]


async def answered_right(url: str, prompts: Sequence[tuple[Case, str]]) -> list[bool]:
    """Whether the answer to each prompt is its edit's."""
    texts = await completions(url, [prompt for _, prompt in prompts])
    return [case.is_correct(text) for (case, _), text in zip(prompts, texts, strict=True)]


def share(right: Sequence[bool]) -> float:
    return sum(right) / len(right)


@pytest.mark.parametrize("method", ["ike", "serac"])
async def test_edits_take_effect_and_nothing_else_changes(
    server: ServerProcess, http: httpx.Client, world: World, chosen: list[Case], method: str
) -> None:
    rng = random.Random("quality")
    changed = {(case.edit.subject, case.relation) for case in chosen}
    subjects = {subject for subject, _ in changed}
    rest = [fact for fact in world.facts if (fact.subject, fact.relation) not in changed]
    relations = prompts_about([fact for fact in rest if fact.subject in subjects], rng)
    others = prompts_about([fact for fact in rest if fact.subject not in subjects], rng)
    before = await completions(server.url, [*relations, *others])
    edits = [
        {
            "method": method,
            "prompt": case.edit.prompt,
            "subject": case.edit.subject,
            "target_new": case.edit.target_new,
        }
        for case in chosen
    ]
    reply = await asyncio.to_thread(http.post, "/v1/edits", json={"edits": edits, "wait": True})
    assert reply.status_code == httpx.codes.OK, reply.text

    edited = await answered_right(server.url, [(case, case.edit.prompt) for case in chosen])
    worded = [(case, wording) for case in chosen for wording in case.wordings]
    reworded = await answered_right(server.url, worded)
    after = await completions(server.url, [*relations, *others])
    kept = [a == b for a, b in zip(after, before, strict=True)]
    scores = {
        "efficacy": share(edited),
        "held-out wordings": share(reworded),
        "other relations": share(kept[:PROMPTS]),
        "other subjects": share(kept[PROMPTS:]),
    }
    print(method, scores)  # noqa: T201
    assert scores["efficacy"] >= 0.97, scores
    assert scores["held-out wordings"] >= 0.95, scores
    assert scores["other relations"] >= 0.98, scores
    assert scores["other subjects"] >= 0.98, scores
