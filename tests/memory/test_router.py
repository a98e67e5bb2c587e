"""The router without a server: what becomes of requests, and what beyond the time they have."""

from typing import Any

import pytest

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
from vllm_edit.domain.edit import Edit, EditRequest, Status
from vllm_edit.domain.errors import InvalidChoice, InvalidEdit, RouteOverBudget
from vllm_edit.domain.method import MethodChange
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


async def memory(encoder: Encoder, counterfactual: Silent | None = None) -> MemoryMethod:
    method = MemoryMethod(
        Retriever(encoder, settings=RetrieverSettings(threshold=0.0)), counterfactual=counterfactual
    )
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
    assert routed.over_budget
    assert routed.request == {"prompt": PROMPT}
    with pytest.raises(RouteOverBudget) as raised:
        await router(method, RoutingBudget(1e-9, fails=True)).route({"prompt": PROMPT}, OPTIONS)
    assert raised.value.code == "route_over_budget"
    assert not (
        await router(method, RoutingBudget(60.0)).route({"prompt": PROMPT}, OPTIONS)
    ).over_budget


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
