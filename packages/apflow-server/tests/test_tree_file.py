"""Files of tasks for the page: read by the server as the command line reads them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from serving import Served, bearer

from apflow.core.errors import InvalidInputError
from apflow.server.ui.tree_file import MAX_CHARACTERS, read_tree_file

FILE = """
params:
  day: {type: string, description: Which day}
  limit: {type: integer, default: 100}
tasks:
- name: Load ${params.day}
  priority: ${params.limit}
  inputs: {file: "orders-${params.day}.csv"}
"""


def read(text: str, **values: Any) -> dict[str, Any]:
    return read_tree_file(text, values, 50)


def test_the_values_of_parameters_are_inserted():
    found = read(FILE, day="monday")
    assert found["tasks"] == [
        {"name": "Load monday", "priority": 100, "inputs": {"file": "orders-monday.csv"}}
    ]


def test_the_parameters_are_a_schema_and_without_their_values_there_are_no_tasks():
    found = read(FILE)
    assert found["tasks"] is None
    assert found["parameters"]["required"] == ["day"]
    assert found["parameters"]["properties"]["limit"] == {"type": "integer", "default": 100}


@pytest.mark.parametrize(
    ("text", "tasks"),
    [
        ("- {name: a, inputs: {n: 18446744073709551615}}", [{"name": "a", "inputs": {"n": 2**64 - 1}}]),
        ('{"tasks": [{"name": "a"}]}', [{"name": "a"}]),
        ("name: ${params.x}", [{"name": "${params.x}"}]),
    ],
)
def test_a_file_without_parameters_is_taken_as_it_is(text: str, tasks: list[Any]):
    assert read(text) == {"parameters": None, "tasks": tasks}


@pytest.mark.parametrize(
    ("text", "values", "reason"),
    [
        ("- name: a\n  name: b", {}, "not valid YAML: line 2, column 3: "),
        ('[{"name": "a"', {}, "not valid JSON: "),
        ("just text", {}, "array of objects"),
        ("tasks: []\nparams: {}\nparamz: {}", {}, "paramz"),
        (FILE, {"day": 5}, "day"),
        (FILE, {"month": "may"}, "month"),
    ],
)
def test_what_cannot_be_used_is_named(text: str, values: dict[str, Any], reason: str):
    with pytest.raises(InvalidInputError) as refused:
        read(text, **values)
    assert reason in " ".join([str(refused.value), *refused.value.violations])


def test_the_page_reads_a_file(http: httpx.Client):
    answer = http.post("/ui/tree-file", json={"text": FILE, "values": {"day": "x"}})
    assert answer.status_code == 200
    assert answer.json()["tasks"][0]["name"] == "Load x"
    assert answer.json()["faults"] == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [("- name: a\n  name: b", "line 2, column 3"), (f"{FILE}- name: ${{params.x}}", "tasks[1]")],
)
def test_the_faults_of_a_file_are_returned_with_their_places(http: httpx.Client, text: str, fault: str):
    answer = http.post("/ui/tree-file", json={"text": text}).json()
    [found] = answer["faults"]
    assert fault in found
    assert answer["tasks"] is None


@pytest.mark.parametrize(
    "body", [{}, {"text": 5}, {"text": "a", "more": 1}, {"text": "a" * (MAX_CHARACTERS + 1)}, []]
)
def test_another_body_is_refused(http: httpx.Client, body: Any):
    assert http.post("/ui/tree-file", json=body).status_code == 400


def test_a_file_is_read_for_those_who_have_a_token(guarded: Served):
    url, body = f"{guarded.url}/ui/tree-file", {"text": "name: a"}
    assert httpx.post(url, json=body).status_code == 401
    assert httpx.post(url, json=body, headers=bearer("ann")).status_code == 200
