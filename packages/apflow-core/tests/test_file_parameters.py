"""Parameters of files of tasks: declarations, values, and references in tasks."""

from __future__ import annotations

from typing import Any

import pytest

from apflow.core.authoring.file_parameters import (
    FileParameters,
    declares_parameters,
    fill_parameters,
    read_parameters,
)
from apflow.core.errors import InvalidInputError

DAY = {"type": "string", "description": "The day."}
LIMIT = {"type": "integer", "default": 10, "minimum": 1, "maximum": 100}


def read(**declared: Any) -> FileParameters:
    return read_parameters({"params": declared, "tasks": []})


def filled(task: Any, values: dict[str, Any], **declared: Any) -> Any:
    parameters = read(**declared)
    return fill_parameters([task], parameters, parameters.complete(values)).tasks[0]


def violations(call: Any) -> list[str]:
    with pytest.raises(InvalidInputError) as caught:
        call()
    return caught.value.violations


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("string", "2026-11-27"),
        ("integer", 3),
        ("number", 0.5),
        ("boolean", False),
        ("array", [1, {"a": None}]),
        ("object", {"b": [True]}),
    ],
)
def test_a_whole_value_has_the_type_of_the_parameter(kind: str, value: Any):
    task = {"name": "n", "inputs": {"x": ["${params.p}"]}}
    assert filled(task, {"p": value}, p={"type": kind})["inputs"] == {"x": [value]}


def test_references_inside_of_text_become_text():
    task = {"name": "load ${params.day}", "inputs": {"file": "${params.day}-${params.n}-${params.full}.csv"}}
    kinds = {"day": DAY, "n": {"type": "number"}, "full": {"type": "boolean"}}
    done = filled(task, {"day": "monday", "n": 1.5, "full": True}, **kinds)
    assert done == {"name": "load monday", "inputs": {"file": "monday-1.5-true.csv"}}


@pytest.mark.parametrize("text", ["${HOME}", "$params.day", "{params.day}", "${ params.day}", "$${HOME}"])
def test_other_text_is_unchanged(text: str):
    assert filled({"name": text}, {"day": "x"}, day=DAY) == {"name": text}


def test_two_dollars_write_a_reference_as_text():
    task = {"a": "$${params.day}", "b": "is $${params.day} ${params.day}"}
    assert filled(task, {"day": "x"}, day=DAY) == {"a": "${params.day}", "b": "is ${params.day} x"}


def test_values_are_not_searched_for_references():
    task = {"whole": "${params.a}", "part": "<${params.a}>"}
    value = "${params.b}"
    done = filled(task, {"a": value, "b": "no"}, a=DAY, b=DAY)
    assert done == {"whole": value, "part": f"<{value}>"}


def test_keys_of_objects_are_not_replaced():
    assert filled({"${params.day}": 1}, {"day": "x"}, day=DAY) == {"${params.day}": 1}


def test_values_cannot_be_multiplied_without_limit():
    task = {"name": "n", "inputs": {"x": ["${params.day}"] * 70}}
    with pytest.raises(InvalidInputError, match="add more than 64 MiB"):
        filled(task, {"day": "x" * (1 << 20)}, day=DAY)


def test_each_task_has_its_own_copy_of_a_value():
    parameters = read(p={"type": "object"})
    tasks = fill_parameters([{"a": "${params.p}"}] * 2, parameters, {"p": {"x": 1}}).tasks
    tasks[0]["a"]["x"] = 2
    assert tasks[1]["a"] == {"x": 1}


def test_a_reference_to_no_parameter_is_refused_with_its_place():
    task = {"name": "n", "inputs": {"a": [{"b": "${params.dai}"}]}}
    [found] = violations(lambda: filled(task, {"day": "x"}, day=DAY))
    assert found.startswith("tasks[0] ('n'): inputs.a[0].b: ${params.dai}: ")
    assert "Did you mean 'day'?" in found


def test_an_array_is_refused_inside_of_text():
    [found] = violations(lambda: filled({"name": "n ${params.p}"}, {"p": [1]}, p={"type": "array"}))
    assert "must be the whole value" in found


def test_defaults_complete_the_values():
    parameters = read(day=DAY, limit=LIMIT)
    assert parameters.missing({}) == ["day"]
    assert parameters.complete({"day": "x"}) == {"day": "x", "limit": 10}
    assert parameters.complete({"limit": 7}) == {"limit": 7}


def test_every_wrong_value_is_named():
    found = violations(lambda: read(day=DAY, limit=LIMIT).complete({"day": 3, "limit": 1000, "limmit": 1}))
    assert [each.split(":")[0] for each in found] == [
        "day",
        "limit",
        "the file has no parameter 'limmit'. Did you mean 'limit'?",
    ]


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ({"day": "today"}, "params.day: a parameter is an object"),
        ({"day": {"type": "date"}}, "params.day.type: the type must be one of string, integer"),
        ({"day": {}}, "params.day: the type must be one of"),
        ({"day": {"type": "string", "defualt": 1}}, "Did you mean 'default'?"),
        ({"day": {"type": "integer", "default": "one"}}, "params.day.default: "),
        ({"day": {"type": "string", "pattern": "("}}, "params.day: Not a usable JSON Schema"),
        ({"day": {"type": "string", "description": 3}}, "params.day.description: must be text"),
        ({"1day": DAY}, "params: the name '1day' cannot be used"),
        ([DAY], "params: must be an object"),
    ],
)
def test_a_wrong_declaration_is_refused_with_its_place(declared: Any, expected: str):
    [found] = violations(lambda: read_parameters({"params": declared, "tasks": []}))
    assert expected in found


def test_other_keys_next_to_params_are_refused():
    [found] = violations(lambda: read_parameters({"params": {}, "tasks": [], "version": 1}))
    assert "'version'" in found


def test_tasks_without_a_value_get_placeholders_and_are_named():
    kinds = {"day": DAY, "n": {"type": "integer"}, "mode": {"type": "string", "enum": ["fast", "slow"]}}
    tasks = [{"a": "${params.day}", "b": "${params.n}", "c": "${params.mode}"}, {"a": 1}]
    done = fill_parameters(tasks, read(**kinds), {})
    assert done.tasks == [{"a": "${params.day}", "b": 1, "c": "fast"}, {"a": 1}]
    assert done.incomplete == {0}


@pytest.mark.parametrize(
    "given", [[], [{"params": {}, "tasks": []}], {"tasks": []}, {"name": "n", "params": {}}, "x"]
)
def test_only_an_object_with_params_and_tasks_declares_parameters(given: Any):
    assert not declares_parameters(given)
