"""Every error has a code of its own, a status from the table, and one shape over HTTP."""

import json

from vllm_edit.domain.errors import EditError, InvalidEdit, StoreLocked
from vllm_edit.http_errors import STATUS, error_response, status_of


def tree(root: type[EditError] = EditError) -> list[type[EditError]]:
    return [root, *(kind for child in root.__subclasses__() for kind in tree(child))]


def test_codes_are_distinct() -> None:
    codes = [kind.code for kind in tree()]
    assert len(set(codes)) == len(codes)


def test_every_class_has_a_status() -> None:
    for kind in tree():
        assert 400 <= status_of(kind("x")) < 600
    assert status_of(StoreLocked("x")) == STATUS[StoreLocked.__mro__[1]]


def test_the_answer_has_openai_s_shape() -> None:
    reply = error_response(InvalidEdit("A sentence.", code="empty", field="prompt"))
    assert reply.status_code == 400
    assert json.loads(bytes(reply.body)) == {
        "error": {
            "message": "A sentence.",
            "type": "InvalidEdit",
            "param": "prompt",
            "code": "empty",
        }
    }
