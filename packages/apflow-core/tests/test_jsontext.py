import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apflow.core.errors import MalformedTextError
from apflow.core.payload.json_text import read_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES, st.sampled_from([None, 2]))
def test_json_reads_as_what_it_says(value, indent):
    assert read_json(json.dumps(value, indent=indent), max_depth=64) == value


@pytest.mark.parametrize(
    ("text", "line", "column", "fault"),
    [
        ('{"a": 1, "a": 2}', 1, 10, "key 'a' is repeated"),
        ('[\n  {"b": {"c": 1,\n   "c": 2}}]', 3, 4, "key 'c' is repeated"),
        ('{"a": 1, "\\u0061": 2}', 1, 10, "key 'a' is repeated"),
        ('{"x": {"a": 1}, "y": {"a": 1}, "x": 0}', 1, 32, "key 'x' is repeated"),
        ('{"a": "b", "b": "a", "c": ["a", "b"], "b": 0}', 1, 39, "key 'b' is repeated"),
        ('{"a{": "}\\"", "b": 1, "a{": 1}', 1, 23, "key 'a{' is repeated"),
        ('["]", {"a": [[], {}, "["], "a": 1}]', 1, 28, "key 'a' is repeated"),
        ("[" * 65 + "]" * 65, 1, 65, "more than 64 levels"),
        ("[" * 100_000, 1, 65, "more than 64 levels"),
        ('{"a":\n' * 100_000, 65, 1, "more than 64 levels"),
        ("[1, NaN]", 1, 5, "NaN is not a JSON value"),
        ("[-Infinity]", 1, 2, "-Infinity is not a JSON value"),
        ("[\n " + "1" * 5000 + "]", 2, 2, "5000 digits"),
        ("[1,\n 2", 2, 3, "delimiter"),
        ("", 1, 1, "expecting value"),
        ("[1] x", 1, 5, "extra data"),
        ('["a\nb"]', 1, 4, "control character"),
    ],
)
def test_what_is_refused_is_named_with_its_line_and_column(text: str, line: int, column: int, fault: str):
    with pytest.raises(MalformedTextError) as caught:
        read_json(text, max_depth=64)
    assert fault in caught.value.fault
    assert (caught.value.line, caught.value.column) == (line, column)
    assert str(caught.value).startswith(f"line {line}, column {column}: ")


@pytest.mark.parametrize(
    "text", ['{"a": 1, "a": 2}', "[" * 100_000, "[" * 65 + "]" * 65, "1" * 5000, "[NaN]"]
)
def test_a_large_text_may_be_refused_without_the_place(text: str):
    with pytest.raises(MalformedTextError) as caught:
        read_json(text, max_depth=64, is_located=False)
    assert caught.value.line is None
    assert caught.value.fault


def test_a_text_may_be_as_deep_as_the_limit():
    assert read_json("[" * 64 + "]" * 64, max_depth=64)
    assert read_json(json.dumps(["[{" * 500]), max_depth=1) == ["[{" * 500]
