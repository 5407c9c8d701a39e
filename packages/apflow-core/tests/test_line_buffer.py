"""Splitting what a program writes into lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apflow.core.capture.line_buffer import Line, LineBuffer


def split(*parts: str, limit: int = 100) -> list[Line]:
    buffer = LineBuffer(limit)
    return [line for part in parts for line in buffer.add(part)] + buffer.rest()


@pytest.mark.parametrize(
    ("parts", "lines"),
    [
        ([""], []),
        (["a", "b", "\n"], ["ab"]),
        (["a\nb\n", "c"], ["a", "b", "c"]),
        (["\n\n"], ["", ""]),
        (["a\r\nb\r", "\n"], ["a", "b"]),
        (["10%\r", "20%\r", "30%"], ["30%"]),
        (["\r10%", "\r20%", "\n", "next"], ["20%", "next"]),
        (["one\rtwo\rthree\n"], ["three"]),
        (["\r\r\n"], [""]),
    ],
)
def test_lines_end_at_newlines_and_start_again_at_carriage_returns(parts: list[str], lines: list[str]):
    assert [line.text for line in split(*parts)] == lines


def test_the_end_of_a_long_line_is_counted():
    assert split("abc", "def", "gh\nabcdefg", limit=4) == [Line("abcd", 4), Line("abcd", 3)]


@given(st.lists(st.text(alphabet="ab\n", max_size=8), max_size=8))
def test_pieces_do_not_change_the_lines(parts: list[str]):
    *whole, last = "".join(parts).split("\n")
    assert [line.text for line in split(*parts)] == whole + ([last] if last else [])


@given(st.lists(st.text(alphabet="a\r\n", max_size=6), max_size=6))
def test_no_line_contains_a_control_of_the_line(parts: list[str]):
    assert not any(mark in line.text for line in split(*parts) for mark in "\r\n")
