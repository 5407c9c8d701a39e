"""Parameters of files on the command line: `--set`, `apflow validate`, and files as the argument."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from apflow.core.authoring.tree_schema import tree_schema

FILE = """\
params:
  a: {type: integer, description: The first number.}
  b:
    type: number
    default: 2.5
    minimum: 0
tasks:
  - name: add ${params.a}
    schemas: {method: add}
    inputs: {a: "${params.a}", b: "${params.b}"}
"""
WORKS = ("--import", "works")


@pytest.fixture(autouse=True)
def _file(apflow: Any):
    (apflow.folder / "tree.yaml").write_text(FILE)


def refused(apflow: Any, *arguments: str) -> str:
    done = apflow(*arguments, *WORKS)
    assert (done.returncode, done.stdout) == (2, ""), done
    return done.stderr


def test_values_and_defaults_reach_the_tasks_with_their_types(apflow: Any):
    outcome = apflow.json("run", "flow", "tree.yaml", "--set", "a=4", *WORKS)
    assert outcome["result"] == {"sum": 6.5}
    assert outcome["root"]["name"] == "add 4"
    outcome = apflow.json("run", "flow", "-f", "tree.yaml", "--set", "a=4", "--set", "b=1e1", *WORKS)
    assert outcome["result"] == {"sum": 14}
    created = apflow.json("tasks", "create", "-f", "tree.yaml", "--set", "a=1")["root"]
    assert created["inputs"] == {"a": 1, "b": 2.5}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "a (integer): The first number."),
        (["--set", "a=one"], '--set a: must be an integer, not "one".'),
        (["--set", "a=1.5"], "--set a: must be an integer"),
        (["--set", "a=true"], "--set a: must be an integer"),
        (["--set", "a=1", "--set", "b=-1"], "b: -1 is less than the minimum of 0"),
        (["--set", "a=1", "--set", "bb=1"], "--set bb: the file has no parameter 'bb'. Did you mean 'b'?"),
        (["--set", "a=1", "--set", "a=2"], "--set a is given twice"),
        (["--set", "a"], "--set 'a' is not of the form NAME=VALUE, as in --set day=2026-11-27."),
        (["--set", "=1"], "is not of the form NAME=VALUE"),
        (["-i", "a=1"], "Give parameters of a file as --set NAME=VALUE."),
        (["-f", "tree.yaml"], "Give either tree.yaml or --tasks-file tree.yaml."),
    ],
)
def test_wrong_values_are_refused_before_anything_is_stored(apflow: Any, arguments: list[str], expected: str):
    assert expected in refused(apflow, "run", "flow", "tree.yaml", *arguments)
    assert apflow.json("tasks", "count")["total"] == 0


def test_values_for_what_declares_no_parameters_are_refused(apflow: Any):
    (apflow.folder / "plain.json").write_text('[{"name": "add", "inputs": {"a": 1}}]')
    assert "declare no parameters" in refused(apflow, "run", "flow", "plain.json", "--set", "a=1")
    assert "--set requires a file" in refused(apflow, "run", "flow", "add", "--set", "a=1")


@pytest.mark.parametrize("name", ["plain.json", "plain.YML", "plain.yaml"])
def test_a_file_is_recognised_by_its_name(apflow: Any, name: str):
    (apflow.folder / name).write_text('[{"name": "add", "inputs": {"a": 1}}]')
    assert apflow.json("run", "flow", name, *WORKS)["result"] == {"sum": 2}


def test_a_missing_file_is_named(apflow: Any):
    assert "none.yaml cannot be read" in refused(apflow, "run", "flow", "none.yaml")


def test_parameters_are_given_to_each_tree_of_a_file(apflow: Any):
    task = "{name: add, inputs: {a: '${params.a}'}}"
    (apflow.folder / "two.yaml").write_text(f"params: {{a: {{type: integer}}}}\ntasks: [{task}, {task}]\n")
    outcome = apflow.json("run", "flow", "two.yaml", "--set", "a=1", *WORKS)
    assert [each["result"] for each in outcome["trees"]] == [{"sum": 2}] * 2


def checked(apflow: Any, text: str, *arguments: str) -> list[str]:
    (apflow.folder / "checked.yaml").write_text(text)
    done = apflow("validate", "checked.yaml", *WORKS, *arguments)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_a_file_is_valid_without_values_and_with_them(apflow: Any):
    assert checked(apflow, FILE) == ["checked.yaml: valid (1 tree, 1 task)"]
    assert checked(apflow, FILE, "--set", "a=1") == ["checked.yaml: valid (1 tree, 1 task)"]
    [found] = checked(apflow, FILE.replace("integer", "string"), "--set", "a=one")
    assert found.startswith('checked.yaml:10:17: inputs.a: "one" is not of type')


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("integer", "date", "checked.yaml:2:13: params.a.type: the type must be one of"),
        ("default: 2.5", "default: -1", "checked.yaml:5:14: params.b.default: -1 is less than"),
        (
            "minimum",
            "minimun",
            "checked.yaml:4:5: params.b: there is no key 'minimun'. Did you mean 'minimum'?",
        ),
        ("{params.b}", "{params.c}", "checked.yaml:10:35: inputs.b: ${params.c}: the file has no parameter"),
        ("schemas:", "schema:", "checked.yaml:8:5: there is no key 'schema'"),
    ],
)
def test_faults_have_their_position(apflow: Any, old: str, new: str, expected: str):
    [found] = checked(apflow, FILE.replace(old, new))
    assert found.startswith(expected), found


def test_what_only_a_value_can_tell_is_not_a_fault(apflow: Any):
    text = """\
params: {other: {type: string}, effect: {type: string}}
tasks:
  - {name: add, inputs: {a: 1}, policy: {effect: "${params.effect}"}}
  - {name: "${params.other}", parent_id: add, dependencies: ["${params.other}-x"]}
"""
    assert checked(apflow, text) == ["checked.yaml: valid (1 tree, 2 tasks)"]


@pytest.mark.parametrize(
    ("given", "is_valid"),
    [
        ({"params": {"a": {"type": "integer", "default": 1}}, "tasks": [{"name": "a"}]}, True),
        ({"params": None, "tasks": [{"name": "a", "priority": "${params.a}"}]}, True),
        ({"params": {}, "tasks": [{"name": "a", "inputs": "${params.a}", "policy": "${params.b}"}]}, True),
        ({"params": {}, "tasks": [{"name": "a", "policy": {"retry": {"delay": "${params.a}"}}}]}, True),
        ({"params": {}, "tasks": [{"name": "a", "priority": "x ${params.a}"}]}, False),
        ({"params": {"a": {}}, "tasks": [{"name": "a"}]}, False),
        ({"params": {"a": {"type": "integer", "defualt": 1}}, "tasks": [{"name": "a"}]}, False),
        ({"params": {"a b": {"type": "integer"}}, "tasks": [{"name": "a"}]}, False),
        ({"params": {}}, False),
    ],
)
def test_the_published_schema_describes_parameters(given: Any, is_valid: bool):
    assert Draft202012Validator(tree_schema()).is_valid(given) is is_valid
