"""Reading JSON from answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apflow.core.payload.schema import compile_schema
from apflow.executor.llm.answer_json import NoJsonError, faults_of, parse_leniently

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(value=JSON)
def test_json_is_read_as_it_is(value: Any):
    assert parse_leniently(json.dumps(value)) == parse_leniently(json.dumps(value, indent=2))


@given(value=st.dictionaries(st.text("abc", min_size=1), st.integers(0, 9), min_size=1, max_size=3))
def test_fences_and_prose_change_nothing(value: dict[str, Any]):
    text = json.dumps(value)
    assert parse_leniently(f"Here it is:\n```json\n{text}\n```\nDone.") == value
    assert parse_leniently(f"Here it is: {text} Done.") == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{'a': True, 'b': None}", {"a": True, "b": None}),
        (
            """{'None': "None", "it's": [None, true, 'a "None"']}""",
            {"None": "None", "it's": [None, True, 'a "None"']},
        ),
        ('{"a": 1, // one\n "b": [1, 2,],}', {"a": 1, "b": [1, 2]}),
        ('```\n[{"a": 1}]\n```', [{"a": 1}]),
        ('{"big": 12345678901234567890123}', None),
        ("no", None),
        ("", None),
    ],
)
def test_what_is_tolerated(text: str, value: Any):
    if value is None:
        with pytest.raises(NoJsonError):
            parse_leniently(text)
    else:
        assert parse_leniently(text) == value


def test_faults_name_the_path():
    schema = compile_schema({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["b"]})
    faults = faults_of({"a": "x"}, schema)
    assert any("answer.a" in fault for fault in faults)
    assert any("b" in fault for fault in faults)
    assert faults_of([1], None) == ["answer: is not a JSON object"]
    assert faults_of({}, None) == []
