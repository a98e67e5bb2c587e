"""Changes of memory: all of a change or nothing, in every variant of it."""

from typing import Any

import pytest

from retriever import EncoderUnavailableError, Retriever, SentenceEncoder
from vllm_edit.domain.edit import Edit, EditRequest, Status
from vllm_edit.domain.errors import ComputeFailed
from vllm_edit.domain.method import MethodChange
from vllm_edit.memory.method import MemoryMethod

VARIANTS = ("set", "default")


def edit(number: int, method: str = "ike", **more: str) -> Edit:
    fields = {"prompt": f"The capital of France {number} is", "subject": "France"} | more
    request = EditRequest(method, target_new="Lyon", **fields)  # type: ignore[arg-type]
    return Edit(f"edit-{number}", request, Status.APPLYING, number, number, 0.0, 0.0)


class Choosy:
    """An encoder that cannot read one word."""

    def __init__(self, error: Exception) -> None:
        self._encoder = SentenceEncoder()
        self._error = error

    def encode(self, texts: list[str]) -> Any:
        if any("poison" in text for text in texts):
            raise self._error
        return self._encoder.encode(texts)


def in_effect(method: MemoryMethod) -> list[list[str]]:
    return [[edit.id for edit in method.edits_by_variant.get(variant, ())] for variant in VARIANTS]


@pytest.mark.parametrize("kind", ["ike", "memprompt"])
async def test_a_change_names_the_edit_that_cannot_be_kept(kind: str) -> None:
    method = MemoryMethod(Retriever(Choosy(IndexError("out of range"))))
    await method.apply(MethodChange([edit(1)], variants=VARIANTS), None, 1)
    bad = edit(3, kind, prompt="The poison of France is")
    change = MethodChange([edit(2), bad, edit(4, "memprompt")], [edit(1)], VARIANTS)
    with pytest.raises(ComputeFailed) as raised:
        await method.apply(change, None, 2)
    assert list(raised.value.reasons) == [bad.id]
    assert in_effect(method) == [["edit-1"], ["edit-1"]]
    await method.apply(MethodChange([edit(2)], [edit(1)], VARIANTS), None, 3)
    assert in_effect(method) == [["edit-2"], ["edit-2"]]


async def test_a_model_that_cannot_be_loaded_is_no_edit_s_fault() -> None:
    method = MemoryMethod(Retriever(Choosy(EncoderUnavailableError("No encoder."))))
    with pytest.raises(ComputeFailed) as raised:
        await method.apply(MethodChange([edit(1, prompt="The poison of France is")]), None, 1)
    assert (raised.value.code, raised.value.reasons) == ("encoder_unavailable", {})
    assert method.edits_by_variant == {}
