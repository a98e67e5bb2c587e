"""The router without a server: what becomes of requests, and what beyond the time they have."""

from typing import Any

import pytest
from prometheus_client import REGISTRY

from retriever import (
    Delegate,
    Encoder,
    HopFormat,
    Mello,
    Pass,
    Retriever,
    RetrieverSettings,
    Rewrite,
    SentenceEncoder,
)
from retriever.ike.editor import CountTokens, guess_tokens
from vllm_edit.domain.edit import Edit, EditRequest, Status
from vllm_edit.domain.errors import InvalidChoice, InvalidEdit, RouteOverBudget, RoutingFailed
from vllm_edit.domain.method import MethodChange
from vllm_edit.memory.context_room import ContextRoom
from vllm_edit.memory.method import MemoryMethod
from vllm_edit.memory.router import Router, RoutingBudget
from vllm_edit.memory.routing_options import RoutingOptions, read_routing_options

PROMPT = "The capital of France is"
FACT = EditRequest("ike", PROMPT, "France", "Lyon")
SERAC = EditRequest("serac", "The capital of Peru is", "Peru", "Cusco")
OPTIONS = RoutingOptions("default")


class Unasked:
    """The served model where no hop is to be asked of it."""

    async def write(self, text: str, request: Any) -> str:
        raise AssertionError(text)


class Silent:
    """A counterfactual model that is there."""

    async def answer(self, *_: Any) -> None:
        raise AssertionError

    async def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return SentenceEncoder()


async def memory(
    encoder: Encoder,
    counterfactual: Silent | None = None,
    count_tokens: CountTokens = guess_tokens,
) -> MemoryMethod:
    settings = RetrieverSettings(threshold=0.0)
    retriever = Retriever(encoder, settings=settings, count_tokens=count_tokens)
    method = MemoryMethod(retriever, counterfactual=counterfactual)
    edits = [
        Edit(f"edit-{at}", request, Status.ACTIVE, at, at, 0.0, 0.0)
        for at, request in enumerate((FACT, SERAC))
    ]
    await method.apply(MethodChange(edits), None, 1)
    return method


def router(method: MemoryMethod, budget: RoutingBudget | None = None) -> Router:
    return Router(method, Mello(HopFormat(), 4), Unasked(), budget or RoutingBudget())  # type: ignore[arg-type]


async def test_each_prompt_of_a_list_is_routed(encoder: Encoder) -> None:
    routed = await router(await memory(encoder)).route({"prompt": [PROMPT, "x"]}, OPTIONS)
    first, second = routed.request["prompt"]
    assert first.endswith(PROMPT)
    assert "Lyon" in first
    assert second == "x"
    assert [type(decision) for decision in routed.decisions] == [Rewrite, Pass]
    assert routed.pass_reasons == ["no_subject_named"]


async def test_what_is_no_text_is_left_alone(encoder: Encoder) -> None:
    for request in ({"prompt": [1, 2]}, {"prompt": None}, {"messages": "x"}, {}):
        routed = await router(await memory(encoder)).route(request, OPTIONS)
        assert routed.request == request
        assert not routed.used


async def test_beyond_its_time_a_request_passes_or_fails(encoder: Encoder) -> None:
    method = await memory(encoder)
    passing = router(method, RoutingBudget(1e-9))
    routed = await passing.route({"prompt": PROMPT}, OPTIONS)
    assert routed.unrouted == "over_budget"
    assert routed.request == {"prompt": PROMPT}
    with pytest.raises(RouteOverBudget) as raised:
        await router(method, RoutingBudget(1e-9, fails=True)).route({"prompt": PROMPT}, OPTIONS)
    assert raised.value.code == "route_over_budget"
    routed = await router(method, RoutingBudget(60.0)).route({"prompt": PROMPT}, OPTIONS)
    assert routed.unrouted is None


class Broken:
    """A classifier with a bug."""

    def scores(self, readings: Any) -> list[float]:
        raise IndexError("string index out of range")


async def test_whatever_goes_wrong_a_request_passes_or_fails(
    encoder: Encoder, caplog: pytest.LogCaptureFixture
) -> None:
    method = MemoryMethod(Retriever(encoder, classifier=Broken()))
    edit = Edit("edit-0", FACT, Status.ACTIVE, 0, 0, 0.0, 0.0)
    await method.apply(MethodChange([edit]), None, 1)
    before = failures()
    for _ in range(2):
        routed = await router(method).route({"prompt": PROMPT}, OPTIONS)
        assert routed.unrouted == "routing_failed"
        assert routed.request == {"prompt": PROMPT}
        assert not routed.used
    assert await router(method).preview(PROMPT, OPTIONS) == "routing_failed"
    assert failures() == before + 3
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    for strict in (router(method).strict, router(method, RoutingBudget(fails=True))):
        for routing in (strict.route({"prompt": PROMPT}, OPTIONS), strict.preview(PROMPT, OPTIONS)):
            with pytest.raises(RoutingFailed, match="string index"):
                await routing


def failures() -> float:
    return REGISTRY.get_sample_value("vllm_edit_routing_failures_total") or 0.0


WORDS = ContextRoom(100, lambda text: len(text.split()))


@pytest.mark.parametrize(
    ("request_", "room"),
    [
        ({"prompt": "a", "max_tokens": 1}, True),
        ({"prompt": "a " * 60, "max_tokens": 1}, True),
        ({"prompt": "a " * 80, "max_tokens": 10}, False),
        ({"prompt": "a", "max_tokens": 85}, False),
        # It does not fit behind the request alone, so the client does not expect so much.
        ({"prompt": "a", "max_tokens": 1000}, True),
        ({"prompt": "a", "truncate_prompt_tokens": 6}, False),
        ({"prompt": "a", "truncate_prompt_tokens": 40}, True),
        ({"prompt": "a " * 80, "truncate_prompt_tokens": -1}, False),
    ],
)
async def test_facts_give_way_to_what_the_client_sent(
    encoder: Encoder, request_: dict[str, Any], room: bool
) -> None:
    request_["prompt"] += PROMPT
    served = Router(  # type: ignore[call-arg]
        await memory(encoder, count_tokens=WORDS.count),
        Mello(HopFormat(), 4),
        Unasked(),  # type: ignore[arg-type]
        RoutingBudget(),
        WORDS,
    )
    routed = await served.route(request_, OPTIONS)
    assert bool(routed.used) is room
    if not room:
        assert routed.request == request_
        assert routed.pass_reasons == ["no_room"]


async def test_feedback_gives_way_too(encoder: Encoder) -> None:
    method = await memory(encoder, count_tokens=WORDS.count)
    feedback = EditRequest("memprompt", "Who rules Oz", "Oz", "Say it briefly " * 5)
    edit = Edit("edit-m", feedback, Status.ACTIVE, 9, 9, 0.0, 0.0)
    await method.apply(MethodChange([edit]), None, 2)
    served = Router(method, Mello(HopFormat(), 4), Unasked(), RoutingBudget(), WORDS)  # type: ignore[arg-type]
    for answer, used in ((1, 1), (90, 0)):
        routed = await served.route({"prompt": "Who rules Oz", "max_tokens": answer}, OPTIONS)
        assert len(routed.used) == used


async def test_the_counterfactual_model_answers_where_there_is_one(encoder: Encoder) -> None:
    assert "serac" not in (await memory(encoder)).offered
    method = await memory(encoder, Silent())
    assert "serac" in method.offered
    routed = await router(method).route({"prompt": SERAC.prompt}, OPTIONS)
    assert isinstance(routed.delegate, Delegate)
    assert [fact.target_new for fact in routed.delegate.facts] == ["Cusco"]
    assert routed.request["prompt"] == SERAC.prompt


async def test_it_answers_the_only_prompt_of_a_list(encoder: Encoder) -> None:
    method = await memory(encoder, Silent())
    routed = await router(method).route({"prompt": [SERAC.prompt]}, OPTIONS)
    assert isinstance(routed.delegate, Delegate)
    assert routed.request["prompt"] == [SERAC.prompt]


@pytest.mark.parametrize(
    ("there", "request_"),
    [
        (False, {"prompt": SERAC.prompt}),
        (True, {"prompt": SERAC.prompt, "logprobs": 1}),
        (True, {"prompt": [SERAC.prompt, PROMPT]}),
    ],
)
async def test_else_its_facts_are_put_in_front(
    encoder: Encoder, there: bool, request_: dict[str, Any]
) -> None:
    method = await memory(encoder, Silent() if there else None)
    routed = await router(method).route(request_, OPTIONS)
    prompt = routed.request["prompt"]
    assert "Cusco" in (prompt if isinstance(prompt, str) else prompt[0])
    assert routed.delegate is None
    assert routed.used[0].method == "serac"


async def test_feedback_takes_the_place_of_its_user_s_feedback_only(encoder: Encoder) -> None:
    method = await memory(encoder)
    mine, hers = (
        EditRequest("memprompt", PROMPT, "France", "Briefly.", user=user) for user in ("me", "her")
    )
    assert len({method.fact(request) for request in (mine, hers, FACT)}) == 3
    with pytest.raises(InvalidEdit):
        method.check([EditRequest("ike", PROMPT, "France", "Lyon", user="me")])


def test_a_request_says_whether_it_takes_hops() -> None:
    assert read_routing_options({}, {}, "base") == RoutingOptions("base")
    assert read_routing_options({"edit_hops": True, "user": "ann"}, {}, "base") == RoutingOptions(
        "base", True, "ann"
    )
    assert read_routing_options({}, {"x-edit-hops": "False"}, "base").hops is False
    for request, headers in (({"edit_hops": 1}, {}), ({}, {"x-edit-hops": "maybe"})):
        with pytest.raises(InvalidChoice):
            read_routing_options(request, headers, "base")
