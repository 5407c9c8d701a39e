"""`apflow validate` finds the faults of a file with their positions, and stores nothing."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from apflow.cli.inputs.positions import Positions
from apflow.core.authoring.tree_schema import tree_schema

REPOSITORY = Path(__file__).parents[3]
VALID = [{"id": "a", "name": "add", "inputs": {"a": 1}}]

FAULTS = """
- id: root
  name: add
  inputs:
    a: one
- id: child
  name: nope
  parent_id: root
  priority: urgent
- id: last
  name: add
  parent_id: root
  dependencies: [ghost]
  policy: {timeoutt: 3}
"""


def lines(apflow: Any, *arguments: str, code: int = 2) -> list[str]:
    done = apflow("validate", "--import", "works", *arguments)
    assert (done.returncode, done.stderr) == (code, "")
    return done.stdout.splitlines()


def test_each_fault_has_its_line_and_column(apflow: Any):
    (apflow.folder / "tree.yaml").write_text(FAULTS)
    found = lines(apflow, "tree.yaml")
    assert [each.split(": ")[0] for each in found] == ["tree.yaml:9:13", "tree.yaml:10:3", "tree.yaml:14:11"]
    assert "priority must be an integer" in found[0]
    assert "'ghost' is not a task" in found[1]
    assert "Did you mean 'timeout'?" in found[2]


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("tree.yaml", "- name: add\n  inputs:\n    a: one\n", "tree.yaml:3:8: inputs.a: "),
        ("tree.json", '[\n\t{"name": "add",\n\t "inputs": {"a": "one"}}\n]', "tree.json:3:19: inputs.a: "),
        ("tree.json", '{"tasks": [\n{"name": "add"}]}', "tree.json:2:1: inputs: "),
        ("tree.yaml", "name: add\ninputs: {a: [1]}", "tree.yaml:2:13: inputs.a: "),
        ("two.yaml", "- {name: add, inputs: {a: 1}}\n- name: nope\n", "two.yaml:2:3: no executor is called"),
        ("deep.yaml", "- name: g\n  children:\n  - name: nope\n", "deep.yaml:3:5: no executor is called"),
        ("made.yaml", "- name: add\n  inputs: {a: 1}\n  params: {x: 2}\n", "made.yaml:3:11: params"),
        ("dup.json", '[\n {"name": "add", "id": "a", "id": "b"}]', "dup.json:2:29: the key 'id' is repeated"),
        ("bad.yaml", "- name: [\n", "bad.yaml:2:1: "),
        ("empty.yaml", "", "empty.yaml: empty.yaml is empty."),
        ("text.yaml", "just text", "text.yaml: Tasks are an array"),
    ],
)
def test_a_fault_is_found_where_it_is(apflow: Any, file: str, text: str, expected: str):
    (apflow.folder / file).write_text(text)
    found = lines(apflow, file)
    assert found[0].startswith(expected), found


@pytest.mark.parametrize(
    "task",
    [
        {"name": "add", "inputs": {"a": {"$secret": "KEY"}}},
        {"name": "add", "params": {"executor_id": "add"}, "inputs": {"a": 2}},
        {"name": "group", "children": [{"name": "add", "inputs": {"a": 1}}]},
        {"name": "done", "status": "completed", "result": 1},
    ],
)
def test_what_may_run_is_valid(apflow: Any, task: dict[str, Any]):
    (apflow.folder / "tree.json").write_text(json.dumps([task]))
    [found] = lines(apflow, "tree.json", code=0)
    assert found.startswith("tree.json: valid (1 tree, ")


def test_json_has_the_same_facts(apflow: Any):
    (apflow.folder / "good.json").write_text(json.dumps(VALID))
    (apflow.folder / "bad.yaml").write_text("- name: add\n  inputs: {a: x}\n")
    good, bad = apflow.json("validate", "good.json", "bad.yaml", "--import", "works", code=2)["files"]
    assert good == {"file": "good.json", "valid": True, "trees": 1, "tasks": 1, "violations": []}
    [violation] = bad["violations"]
    assert (violation["line"], violation["column"]) == (2, 15)


def test_standard_input_is_checked(apflow: Any):
    done = apflow("validate", "-", "--import", "works", stdin=json.dumps(VALID))
    assert (done.returncode, done.stdout) == (0, "-: valid (1 tree, 1 task)\n")


@pytest.mark.parametrize(
    "task", [{"name": "nope"}, {"name": "add", "inputs": {"a": "x"}}, {"name": "add", "params": {"z": 1}}]
)
def test_a_run_that_would_fail_before_its_code_runs_stores_nothing(apflow: Any, task: dict[str, Any]):
    done = apflow("run", "flow", "--tasks", json.dumps([task]), "--import", "works")
    assert done.returncode == 2
    assert "nothing was created" in done.stderr
    assert apflow.json("tasks", "count")["total"] == 0


def test_the_published_schema_is_that_of_the_cli(apflow: Any):
    done = apflow("validate", "--schema")
    published = REPOSITORY / "docs/reference/tree.schema.json"
    assert json.loads(done.stdout) == json.loads(published.read_text()) == tree_schema()
    Draft202012Validator.check_schema(tree_schema())


@pytest.mark.parametrize(
    ("given", "is_valid"),
    [
        (VALID, True),
        ({"tasks": VALID}, True),
        (VALID[0], True),
        ([{"name": "a", "dependencies": ["b", {"id": "c", "required": False}, {"name": "d"}]}], True),
        ([{"name": "a", "policy": {"retry": {"max_attempts": 3, "on": ["OSError"]}, "timeout": 1}}], True),
        ([{"name": "a", "root_id": "r", "progress": 0.0, "children": [{"name": "b"}]}], True),
        ([], False),
        ([{"id": "a"}], False),
        ([{"name": "a", "executor": "x"}], False),
        ([{"name": "a", "priority": "urgent"}], False),
        ([{"name": "a", "dependencies": [{"required": True}]}], False),
        ([{"name": "a", "policy": {"timeout": 0}}], False),
        ([{"name": "a", "policy": {"retry": {"tries": 1}}}], False),
        ([{"name": "a", "children": [{"id": "b"}]}], False),
    ],
)
def test_the_schema_accepts_what_the_program_accepts(given: Any, is_valid: bool):
    assert Draft202012Validator(tree_schema()).is_valid(given) is is_valid


def test_a_text_that_only_a_json_parser_reads_has_no_positions():
    assert Positions('[{"name": "\\ud800"}]').find("tasks[0] ('x'): inputs") is None
