from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

TREE = [
    {
        "id": "root",
        "name": "both",
        "dependencies": ["left", "right"],
        "schemas": {"method": "add"},
        "inputs": {"a": 5},
    },
    {"id": "left", "name": "left", "parent_id": "root", "schemas": {"method": "add"}, "inputs": {"a": 1}},
    {"id": "right", "name": "right", "parent_id": "root", "schemas": {"method": "add"}, "inputs": {"a": 2}},
]
FAILING = [TREE[0], TREE[1], TREE[2] | {"schemas": {"method": "fail"}}]
NESTED_FAILING: list[Any] = [
    {"id": "root", "name": "both"},
    {"id": "left", "name": "left", "parent_id": "f-root", "schemas": {"method": "add"}, "inputs": {"a": 1}},
    {
        "id": "right",
        "name": "right",
        "parent_id": "f-root",
        "params": {"executor_id": "fail"},
        "inputs": {"a": 2},
    },
]
UNKNOWN = "00000000-0000-0000-0000-000000000000"


@pytest.fixture(scope="module")
def finished(program_type: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The file of a database with a tree that has run, and what its run told."""
    pytest.importorskip("apflow.storage.duckdb")
    folder = tmp_path_factory.mktemp("finished")
    program = program_type(folder, f"duckdb:///{folder}/tasks.duckdb")
    return folder / "tasks.duckdb", program.run(*TREE)


@pytest.fixture
def tree(apflow, finished: tuple[Path, Any]) -> Any:
    path, outcome = finished
    shutil.copy(path, apflow.folder)
    return outcome


def test_only_roots_are_listed_unless_all_are_asked_for(apflow, tree):
    assert [each["name"] for each in apflow.json("tasks", "list")["tasks"]] == ["both"]
    assert sorted(each["name"] for each in apflow.json("tasks", "list", "--all")["tasks"]) == [
        "both",
        "left",
        "right",
    ]


def test_tasks_are_found_by_their_tags_and_their_labels(apflow, tree):
    apflow.json("tasks", "update", "left", "--tags", "nightly, eu", "--label", "Import of today")
    apflow.json("tasks", "update", "right", "--tags", "nightly")

    def found(*options: str) -> list[str]:
        return [
            each["id"] for each in apflow.json("tasks", "list", "--all", "--sort", "name", *options)["tasks"]
        ]

    assert found("--tag", "nightly") == ["left", "right"]
    assert found("--tag", "nightly", "--tag", "eu") == ["left"]
    assert found("--label", "of to") == ["left"]
    assert apflow.json("tasks", "count", "--tag", "nightly")["total"] == 2
    apflow.json("tasks", "update", "left", "--tags", "", "--label", "")
    assert found("--tag", "eu") == found("--label", "of to") == []


def test_a_list_is_filtered_ordered_and_cut(apflow, tree):
    apflow.run({"name": "fail"}, code=1)
    names = [each["name"] for each in apflow.json("tasks", "list", "--order", "created_at")["tasks"]]
    assert names == ["both", "fail"]
    assert [each["name"] for each in apflow.json("tasks", "list", "--status", "failed")["tasks"]] == ["fail"]
    assert [each["name"] for each in apflow.json("tasks", "list", "--name", "both")["tasks"]] == ["both"]
    assert [
        each["name"] for each in apflow.json("tasks", "list", "--limit", "1", "--offset", "1")["tasks"]
    ] == ["both"]
    assert apflow.json("tasks", "list", "--created-before", "2001-01-01")["tasks"] == []


def test_a_piped_list_is_plain_columns(apflow, tree):
    lines = apflow("tasks", "list").stdout.splitlines()
    assert lines[0].split() == ["ID", "NAME", "STATUS", "PROGRESS", "CREATED_AT"]
    assert lines[1].split()[:4] == ["root", "both", "completed", "100%"]


def test_one_task_is_shown_with_every_field(apflow, tree):
    task = apflow.json("tasks", "get", "left")["task"]
    assert (task["name"], task["result"], task["parent_id"]) == ("left", {"sum": 2}, "root")
    assert 'result            {"sum": 2}' in apflow("tasks", "get", "left").stdout


def test_the_status_of_a_root_is_that_of_its_tree(apflow):
    failed = apflow.run(*FAILING, code=1)
    [root, left] = apflow.json("tasks", "status", failed["root_task_id"], "left")["tasks"]
    assert (root["status"], root["progress"], root["error"]) == ("failed", 1.0, "task right: as asked")
    assert (left["status"], left["error"]) == ("completed", None)


def test_any_task_leads_to_its_tree(apflow, tree):
    root = apflow.json("tasks", "tree", "right")["root"]
    assert (root["name"], [each["name"] for each in root["children"]]) == ("both", ["left", "right"])
    assert apflow("tasks", "tree", "left").stdout.splitlines()[1] == "  completed    left  left"


def test_children_are_listed_in_order(apflow, tree):
    assert [each["name"] for each in apflow.json("tasks", "children", "root")["tasks"]] == ["left", "right"]


def test_tasks_are_counted(apflow, tree):
    counted = apflow.json("tasks", "count")
    assert (counted["total"], counted["by_status"]["completed"], counted["by_status"]["failed"]) == (3, 3, 0)
    assert apflow.json("tasks", "count", "--roots")["total"] == 1
    assert apflow("tasks", "count").stdout.splitlines()[-1] == "total        3"


def test_a_unique_prefix_of_an_id_stands_for_it(apflow):
    done = apflow.run({"name": "add", "inputs": {"a": 1}})
    prefix = done["root_task_id"][:13]
    assert apflow.json("tasks", "get", prefix)["task"]["id"] == done["root_task_id"]


def test_a_prefix_of_two_ids_is_refused_and_a_short_one_is_none(apflow):
    apflow.run({"id": "same-beginning-1", "name": "add", "inputs": {"a": 1}})
    apflow.run({"id": "same-beginning-2", "name": "add", "inputs": {"a": 1}})
    done = apflow("tasks", "get", "same-beginning")
    assert done.returncode == 2
    assert "same-beginning-1, same-beginning-2" in done.stderr
    assert apflow("tasks", "get", "same-be").returncode == 3


@pytest.mark.parametrize(
    "command",
    ["get", "attempts", "status", "tree", "children", "why", "execute", "delete", "copy", "cancel"],
)
def test_an_unknown_task_exits_3(apflow, command: str):
    done = apflow("tasks", command, UNKNOWN)
    assert done.returncode == 3
    assert f"There is no task '{UNKNOWN}'" in done.stderr
    assert done.stdout == ""


def test_what_completed_is_kept_when_a_tree_is_executed_again(apflow):
    failed = apflow.run(*FAILING, code=1)
    again = apflow.json("tasks", "execute", failed["root_task_id"], "--import", "works", code=1)
    attempts = {each["name"]: each["attempts"] for each in again["root"]["children"]}
    assert attempts == {"left": 1, "right": 1}
    times = {each["name"]: each["started_at"] for each in failed["root"]["children"]}
    assert times["left"] == next(
        each["started_at"] for each in again["root"]["children"] if each["name"] == "left"
    )


def test_force_runs_what_completed_again(apflow, tree):
    again = apflow.json("tasks", "execute", "root", "--force", "--import", "works")
    assert again["root"]["started_at"] > tree["root"]["started_at"]


def test_a_copy_is_executed_and_the_original_left_alone(apflow, tree):
    again = apflow.json("tasks", "execute", "root", "--copy-children", "--import", "works")
    assert again["original_task_id"] == "root"
    assert again["root_task_id"] != "root"
    assert apflow.json("tasks", "get", "root")["task"]["started_at"] == tree["root"]["started_at"]


def test_a_copy_is_pending_and_knows_its_original(apflow, tree):
    copied = apflow.json("tasks", "copy", "root", "--children")
    assert copied["saved"] is True
    assert copied["root"]["original_task_id"] == "root"
    assert copied["root"]["status"] == "pending"
    assert apflow.json("tasks", "count")["total"] == 6


def test_a_dry_run_of_a_copy_creates_nothing(apflow, tree):
    shown = apflow.json("tasks", "copy", "root", "--children", "--dry-run")
    assert shown["saved"] is False
    assert len(shown["tasks"]) == 3
    assert apflow.json("tasks", "count")["total"] == 3


def test_a_fork_continues_from_a_task_with_other_fields(apflow, tree):
    failed = apflow.run(*({**each, "id": f"f-{each['id']}"} for each in NESTED_FAILING), code=1)
    editor = apflow.folder / "editor.py"
    editor.write_text(
        "import json, sys; path = sys.argv[1]; given = json.load(open(path))\n"
        "given['f-right']['params'] |= {'executor_id': 'add'}; json.dump(given, open(path, 'w'))\n"
    )
    apflow.environment["EDITOR"] = f"{sys.executable} {editor}"
    fork = apflow.json("tasks", "fork", "f-root", "--from", "f-right", "--set", "inputs.b=4", "--edit")[
        "root"
    ]
    assert [each["status"] for each in fork["children"]] == ["completed", "pending"]
    again = apflow.json("tasks", "execute", fork["id"], "--import", "works")
    assert [each["result"] for each in again["root"]["children"]] == [{"sum": 2}, {"sum": 6}]
    assert apflow.json("tasks", "get", "f-root")["task"]["updated_at"] == failed["root"]["updated_at"]


def test_a_dry_run_of_a_fork_creates_nothing(apflow, tree):
    shown = apflow.json("tasks", "fork", "root", "--set", "left:inputs.a=9", "--dry-run")
    assert {each["name"]: each["inputs"] for each in shown["tasks"]}["left"] == {"a": 9}
    assert apflow.json("tasks", "count")["total"] == 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--set", "inputs.a=9"], "say for which task"),
        (["--set", "left:inputs"], "is not of the form"),
        (["--set", "left:inputs..a=9"], "is not of the form"),
        (["--set", "left:inputs.a=9", "--set", "left:inputs.a=8"], "given twice"),
        (["--set", "left:inputs=9", "--set", "left:inputs.a=8"], "given twice"),
        (["--set", "left:input.a=9"], "Did you mean 'inputs'?"),
        (["--from", "lefd"], "lefd"),
    ],
)
def test_a_fork_that_is_not_possible_is_refused(apflow, tree, given: list[str], message: str):
    done = apflow("tasks", "fork", "root", *given)
    assert done.returncode != 0
    assert message in done.stderr
    assert apflow.json("tasks", "count")["total"] == 3


def test_a_stored_tree_that_never_ran_is_cancelled(apflow, tree):
    copied = apflow.json("tasks", "copy", "root")["root"]
    [cancelled] = apflow.json("tasks", "cancel", copied["id"], "--message", "not needed")["tasks"]
    assert cancelled["status"] == "cancelled"
    assert apflow.json("tasks", "get", copied["id"])["task"]["error"] == "not needed"


def test_cancelling_what_has_ended_is_refused_with_exit_4(apflow, tree):
    done = apflow("tasks", "cancel", "root")
    assert done.returncode == 4
    assert "Nothing is left to cancel" in done.stdout


def test_where_no_run_was_left_there_is_nothing_to_resume(apflow, tree):
    assert apflow.json("tasks", "resume", "--all")["tasks"] == []


def test_resuming_names_what_to_resume(apflow):
    assert apflow("tasks", "resume").returncode == 2


def test_what_has_run_is_deleted_only_by_force(apflow, tree):
    done = apflow("tasks", "delete", "root")
    assert done.returncode == 4
    assert "'left' (left) is completed" in done.stderr
    assert apflow.json("tasks", "delete", "root", "--force")["deleted_count"] == 3
    assert apflow.json("tasks", "count")["total"] == 0


def test_why_tells_the_reason_and_what_to_try(apflow):
    apflow.run(*FAILING, code=1)
    done = apflow("tasks", "why", "root")
    assert done.stdout.splitlines()[0] == "both is failed."
    assert "Try: apflow tasks execute root" in done.stdout
    assert apflow.json("tasks", "why", "left")["reasons"] == ["It completed."]


def test_attempts_and_tracebacks_are_shown(apflow):
    apflow.run(*FAILING, code=1)
    apflow("tasks", "execute", "root", "--import", "works")
    traceback = [
        "Traceback (most recent call last):",
        'raise RuntimeError("as asked")',
        "RuntimeError: as asked",
    ]
    listed = apflow("tasks", "attempts", "right")
    assert [line.split()[:2] for line in listed.stdout.splitlines()] == [
        ["NUMBER", "OUTCOME"], ["1", "failed"], ["2", "failed"],
    ]  # fmt: skip
    for done in (
        apflow("tasks", "attempts", "right", "--verbose"),
        apflow("tasks", "why", "right", "--verbose"),
        apflow("tasks", "get", "right"),
    ):
        shown = done.stdout.partition("Traceback of attempt 2:")[2].splitlines()
        assert [line.strip() for line in shown if line.strip() in traceback] == traceback
        assert "apflow/core" not in done.stdout
    attempts = apflow.json("tasks", "attempts", "right")["attempts"]
    assert [each["number"] for each in attempts] == [1, 2]
    assert apflow.json("tasks", "get", "right")["task"]["history"] == attempts
    assert apflow.json("tasks", "why", "right", "-v")["attempts"] == attempts
    assert apflow("tasks", "attempts", "root").stdout == "It has no attempts.\n"


def test_names_cannot_command_the_terminal(apflow):
    task = {"name": "\x1b[2Jwiped\nout", "schemas": {"method": "add"}, "inputs": {"a": 1}}
    done = apflow("run", "flow", "--tasks", json.dumps([task]), "--import", "works")
    assert "\x1b" not in done.stdout
    assert "[2Jwiped out" in done.stdout


def test_a_reader_that_goes_away_is_no_fault(apflow, tree):
    process = apflow.start("tasks", "tree", "root", "--json")
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=60) == 141


ENDINGS = {"add": ("completed", 0), "fail": ("failed", 1), "give_up": ("cancelled", 7)}


@pytest.mark.parametrize("executor", ENDINGS)
@pytest.mark.parametrize("has_children", [False, True])
def test_every_command_shows_the_same_progress_of_what_has_ended(apflow, executor: str, has_children: bool):
    status, code = ENDINGS[executor]
    task = {"id": "0", "name": executor, "schemas": {"method": executor}, "inputs": {"a": 1}}
    child = {"id": "1", "name": "add", "parent_id": "0", "schemas": {"method": "add"}, "inputs": {"a": 1}}
    outcome = apflow.run(task, *([child] if has_children else []), code=code)
    assert outcome["status"] == status
    shown = [
        outcome,
        outcome["root"],
        *outcome["root"]["children"],
        apflow.json("tasks", "get", "0")["task"],
        *apflow.json("tasks", "list", "--all")["tasks"],
        *apflow.json("tasks", "status", "0")["tasks"],
        *(apflow.json("tasks", "status", "1")["tasks"] if has_children else []),
        *apflow.json("tasks", "children", "0")["tasks"],
        apflow.json("tasks", "tree", "0")["root"],
    ]
    assert {each["progress"] for each in shown} == {1.0}
    assert "100%" in apflow("tasks", "list").stdout
    assert "100%" in apflow("tasks", "status", "0").stdout


def test_tasks_are_named_by_keys_and_paths(apflow, tree):
    again = apflow.run(*TREE)  # the ids are taken now
    real = again["ids"]
    assert real["left"] != "left"
    listed = apflow("tasks", "list", "--all", "--key", "left")
    assert listed.stdout.splitlines()[0].split()[:3] == ["ID", "KEY", "NAME"]
    assert f"{real['left']}  left  left  completed" in listed.stdout
    assert apflow.json("tasks", "get", f"{real['root'][:8]}/left")["task"]["id"] == real["left"]
    done = apflow("tasks", "get", "root/left")
    assert done.returncode == 2
    assert "'root/left' matches 2 tasks: " in done.stderr
    assert real["left"] in done.stderr
    apflow("tasks", "delete", "--force", "root")
    assert apflow.json("tasks", "why", "root/left")["task_id"] == real["left"]
    assert apflow.json("tasks", "tree", "root")["root"]["key"] == "root"
    shown = apflow("tasks", "tree", "root/right").stdout
    assert f"both (root)  {real['root']}" in shown
    assert apflow.json("tasks", "delete", "root/root", "--force")["deleted_count"] == 3
    assert apflow("tasks", "get", "root/left").returncode == 3
