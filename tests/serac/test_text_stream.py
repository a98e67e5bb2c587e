"""Streamed text: whole characters only, and none from a stop string on."""

from collections.abc import Sequence

import torch
from hypothesis import given
from hypothesis import strategies as st

from vllm_edit.serac.text_stream import TextStream


def _decode(ids: Sequence[int]) -> str:
    return bytes(ids).decode(errors="replace")


def _pieces(data: bytes, stop: Sequence[str], lead: bytes = b"") -> list[str]:
    pieces: list[str] = []
    stream = TextStream(_decode, list(lead), stop, pieces.append)
    stream.put(torch.tensor([[1, 2, 3]]))
    for byte in data:
        if not stream.stopped:
            stream.put(torch.tensor([byte]))
    stream.end()
    return pieces


def test_characters_are_never_split() -> None:
    assert _pieces("aé€".encode(), ()) == ["a", "é", "€"]
    assert _pieces("a€".encode()[:-1], ()) == ["a", "\N{REPLACEMENT CHARACTER}"]


def test_the_text_ends_before_a_stop_string() -> None:
    assert _pieces(b"one.\n\ntwo", ["\n\n"]) == ["o", "n", "e", "."]
    assert _pieces(b"a\nb\n\nc", ["\n\n"]) == ["a", "\nb"]
    assert _pieces(b"ab\n", ["\n\n"]) == ["a", "b", "\n"]
    assert _pieces(b"xyz", ["x"]) == []


def test_the_tokens_in_front_are_left_out() -> None:
    assert _pieces(b"c", (), lead=b"ab") == ["c"]


@given(
    st.text(alphabet="ab\n€", max_size=30),
    st.lists(st.text(alphabet="ab\n€", min_size=1, max_size=3), max_size=3),
)
def test_pieces_make_up_the_text_before_the_first_stop(text: str, stop: list[str]) -> None:
    ends = [at for at in range(len(text) + 1) if any(text[:at].endswith(s) for s in stop)]
    cut = text[: ends[0]] if ends else text
    positions = [at for s in stop if (at := cut.find(s)) >= 0]
    expected = cut[: min(positions)] if positions else text
    assert "".join(_pieces(text.encode(), stop)) == expected
