from __future__ import annotations

import pytest

from apflow.cli.display.table import Column, cut, fit, lines, width_of, wrapped

NAME = Column("NAME", is_flexible=True)
FIXED = Column("STATUS")
OPTIONAL = Column("AGE", rank=1)


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("short", 10, "short"),
        ("import of the records", 16, "import of the…"),
        ("import of the records", 14, "import of the…"),
        ("import-of-the-records", 10, "import-of…"),
        ("a verylongwordthatdoesnotfit", 12, "a verylongw…"),
        ("日本語の名前", 7, "日本語…"),
        ("x", 0, ""),
    ],
)
def test_text_is_cut_after_a_word_if_one_ends_in_the_second_half(text: str, width: int, shown: str):
    assert cut(text, width) == shown
    assert width_of(cut(text, width)) <= width


def test_a_table_that_fits_keeps_everything():
    rows = [["import of the records", "completed", "3d"]]
    assert fit([NAME, FIXED, OPTIONAL], rows, 80) == [(0, 21), (1, 9), (2, 3)]


def test_flexible_columns_give_way_first_and_optional_ones_are_left_out_next():
    rows = [["import of the customer records of the day", "completed", "3d"]]
    columns = [NAME, FIXED, OPTIONAL]
    assert fit(columns, rows, 40) == [(0, 24), (1, 9), (2, 3)]
    assert fit(columns, rows, 26) == [(0, 15), (1, 9)]


def test_the_columns_of_the_highest_rank_are_left_out_first():
    columns = [NAME, Column("A", rank=1), Column("B", rank=2)]
    rows = [["x" * 20, "a" * 10, "b" * 10]]
    assert [at for at, _ in fit(columns, rows, 30)] == [0, 1]


def test_a_wrapped_column_breaks_between_words():
    column = Column("DETAIL", is_flexible=True, is_wrapped=True)
    rows = [["x", "the database cannot be opened because another process holds it"]]
    shown = [dict(line) for line in lines([Column("ID"), column], rows, 30)]
    assert shown[0] == {0: "ID", 1: "DETAIL"}
    assert [line[1] for line in shown[1:]] == [
        "the database cannot be",
        "opened because another",
        "process holds it",
    ]
    assert [line[0].strip() for line in shown[1:]] == ["x", "", ""]
    assert wrapped("longword", 4) == ["long", "word"]


def test_columns_share_what_is_left():
    columns = [NAME, Column("ERROR", is_flexible=True)]
    assert fit(columns, [["n" * 50, "e" * 50]], 42) == [(0, 20), (1, 20)]
    assert fit(columns, [["n" * 5, "e" * 50]], 42) == [(0, 5), (1, 35)]


def test_wide_characters_count_twice():
    [_, line] = lines([NAME, FIXED], [["日本", "done"]], 80)
    assert line == [(0, "日本"), (1, "done")]
    [_, line] = lines([NAME, FIXED], [["日", "done"]], 80)
    assert line == [(0, "日  "), (1, "done")]
