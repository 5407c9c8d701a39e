"""Inputs of an executor as `-i NAME=VALUE`, of the types in its input schema."""

from __future__ import annotations

from typing import Any

import pytest

from apflow.cli.inputs.run_source import typed_inputs
from apflow.core.errors import InvalidInputError

WORKS = ("--import", "works")


def test_inputs_have_the_types_of_the_schema(apflow: Any):
    outcome = apflow.json("run", "flow", "add", "-i", "a=4", "-i", "b=0.5", *WORKS)
    assert outcome["result"] == {"sum": 4.5}
    assert outcome["root"]["inputs"] == {"a": 4, "b": 0.5}


def test_inputs_as_json_are_completed(apflow: Any):
    outcome = apflow.json("run", "flow", "add", "-i", '{"a": 1, "b": 2}', "-i", "b:=10", *WORKS)
    assert outcome["result"] == {"sum": 11}
    outcome = apflow.json("run", "flow", "add", "--inputs", '{"a": 1}', "-i", "b=3", *WORKS)
    assert outcome["result"] == {"sum": 4}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-i", "a=four"], '-i a: must be a number, not "four".'),
        (["-i", "a:=four"], "-i a is not valid JSON"),
        (["-i", 'a:="four"'], "inputs.a"),
        (["-i", "a=1", "-i", "a:=1"], "-i a is given twice"),
        (["-i", "a"], "-i 'a' is not of the form NAME=VALUE"),
        (["-i", "{}", "--inputs", "{}"], "Give the inputs as JSON once"),
        (["--inputs", "[]", "-i", "a=1"], "requires that the other inputs are a JSON object"),
    ],
)
def test_wrong_inputs_are_refused_before_anything_is_stored(apflow: Any, arguments: list[str], expected: str):
    done = apflow("run", "flow", "add", *arguments, *WORKS)
    assert (done.returncode, done.stdout) == (2, "")
    assert expected in done.stderr
    assert apflow.json("tasks", "count")["total"] == 0


def test_an_unknown_executor_is_named(apflow: Any):
    done = apflow("run", "flow", "adds", "-i", "a=1", *WORKS)
    assert done.returncode == 2
    assert "no executor" in done.stderr.lower() or "'adds'" in done.stderr


def test_arguments_of_functions_have_the_types_of_their_hints(apflow: Any):
    (apflow.folder / "mine.py").write_text(
        "from apflow.core import task\n\n\n@task\ndef repeat(word: str, times: int = 2) -> str:\n"
        "    return word * times\n"
    )
    outcome = apflow.json("run", "flow", "mine.py:repeat", "-i", "word=12", "-i", "times=3")
    assert outcome["result"] == "121212"
    done = apflow("run", "flow", "mine.py:repeat", "-i", "word=x", "-i", "times=x")
    assert '-i times: must be an integer, not "x".' in done.stderr


SCHEMA: dict[str, Any] = {
    "properties": {
        "text": {"type": "string"},
        "whole": {"type": ["integer", "null"]},
        "maybe": {"anyOf": [{"$ref": "#/$defs/flag"}, {"type": "null"}]},
        "either": {"oneOf": [{"type": "string"}, {"type": "array"}]},
        "kind": {"enum": ["a", "1"]},
        "level": {"enum": [1, 2]},
        "many": {"type": "array"},
        "any": {},
    },
    "$defs": {"flag": {"type": "boolean"}},
}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("text", "1", "1"),
        ("text", "", ""),
        ("whole", "1", 1),
        ("whole", "null", None),
        ("maybe", "true", True),
        ("maybe", "null", None),
        ("either", "[1]", "[1]"),
        ("kind", "1", "1"),
        ("level", "2", 2),
        ("many", "[1, 2]", [1, 2]),
        ("any", "1", "1"),
        ("undeclared", "1=2", "1=2"),
    ],
)
def test_text_is_read_by_the_types_of_the_schema(name: str, text: str, value: Any):
    found = typed_inputs({name: text}, SCHEMA)[name]
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    ("name", "text"), [("whole", "1.0"), ("whole", "true"), ("maybe", "yes"), ("many", "{}")]
)
def test_text_of_another_type_is_refused(name: str, text: str):
    with pytest.raises(InvalidInputError) as caught:
        typed_inputs({name: text}, SCHEMA)
    assert caught.value.violations[0].startswith(f"-i {name}: must be ")
