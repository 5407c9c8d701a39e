from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
from pathlib import Path

import pytest

ADD = {"name": "sum", "schemas": {"method": "add"}, "inputs": {"a": 1, "b": 2}}


def test_a_tree_runs_and_its_outcome_is_data_on_standard_output(apflow):
    outcome = apflow.run(ADD)
    assert outcome["schema_version"] == 1
    assert (outcome["status"], outcome["result"], outcome["progress"]) == ("completed", {"sum": 3}, 1.0)
    assert outcome["root"]["name"] == "sum"
    assert outcome["root"]["id"] == outcome["root_task_id"]


def test_piped_output_is_plain_text(apflow):
    done = apflow("run", "flow", "--tasks", json.dumps([ADD]), "--import", "works")
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.startswith("completed    sum  ")
    assert 'result        {"sum": 3}' in done.stdout
    assert "\x1b" not in done.stdout


def test_ids_that_changed_are_told(apflow):
    first = apflow.run(ADD | {"id": "one"})
    second = apflow.run(ADD | {"id": "one"})
    assert first["ids"]["one"] == "one"
    assert second["ids"]["one"] == second["root_task_id"] != "one"


@pytest.mark.parametrize("name", ["tasks.json", "tasks.yaml", "tasks.txt"])
def test_tasks_come_from_files(apflow, name: str):
    text = (
        json.dumps([ADD])
        if name == "tasks.json"
        else "- name: sum\n  schemas: {method: add}\n  inputs: {a: 1, b: 2}\n"
    )
    (apflow.folder / name).write_text(text)
    outcome = apflow.json("run", "flow", "--tasks-file", name, "--import", "works")
    assert outcome["result"] == {"sum": 3}


def test_tasks_come_from_standard_input(apflow):
    done = apflow(
        "run", "flow", "--tasks-file", "-", "--import", "works", "--json", stdin=json.dumps({"tasks": [ADD]})
    )
    assert json.loads(done.stdout)["result"] == {"sum": 3}


def test_one_executor_runs_with_its_inputs(apflow):
    outcome = apflow.json("run", "flow", "add", "--inputs", '{"a": 4}', "--import", "works")
    assert outcome["result"] == {"sum": 5}


def test_inputs_come_from_a_file(apflow):
    (apflow.folder / "inputs.yaml").write_text("a: 4\n")
    outcome = apflow.json("run", "flow", "add", "--inputs-file", "inputs.yaml", "--import", "works")
    assert outcome["result"] == {"sum": 5}


def test_modules_to_import_come_from_the_environment_too(apflow):
    apflow.environment["APFLOW_IMPORT"] = "works"
    assert apflow.json("run", "flow", "add", "--inputs", '{"a": 4}')["result"] == {"sum": 5}


def test_the_outcome_is_written_into_a_file(apflow):
    done = apflow(
        "run", "flow", "add", "--inputs", '{"a": 4}', "--import", "works", "--output", "outcome.json"
    )
    assert done.returncode == 0
    assert json.loads((apflow.folder / "outcome.json").read_text())["result"] == {"sum": 5}


def test_a_folder_that_is_missing_is_told_before_anything_runs(apflow):
    done = apflow("run", "flow", "add", "--import", "works", "--output", "no/such/outcome.json")
    assert done.returncode == 2
    assert apflow.json("tasks", "count")["total"] == 0


def test_a_failed_task_exits_1_and_tells_the_error(apflow):
    done = apflow("run", "flow", "fail", "--import", "works")
    assert done.returncode == 1
    assert "as asked" in done.stdout


def test_a_skipped_task_is_shown_with_its_reason_and_exits_0(apflow):
    skipped = ADD | {"name": "more", "parent_id": "sum", "dependencies": ["sum"], "when": "sum.sum > `9`"}
    done = apflow("run", "flow", "--tasks", json.dumps([ADD, skipped]), "--import", "works")
    assert done.returncode == 0
    assert re.search(r"skipped +more .*Skipped, because 'sum.sum > `9`' is false", done.stdout)


def test_a_cancelled_task_exits_7(apflow):
    done = apflow("run", "flow", "give_up", "--import", "works")
    assert done.returncode == 7
    assert "not today" in done.stdout


def test_the_user_of_new_tasks_can_be_named(apflow):
    apflow.json("run", "flow", "add", "--inputs", '{"a": 4}', "--import", "works", "--user-id", "ann")
    assert [each["user_id"] for each in apflow.json("tasks", "list", "--user-id", "ann")["tasks"]] == ["ann"]
    assert apflow.json("tasks", "list", "--user-id", "bob")["tasks"] == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "Give exactly one of"),
        (["add", "--tasks", "[]"], "Give exactly one of"),
        (["--tasks", "[{]"], "--tasks is not valid JSON"),
        (["--tasks", "[]"], "task"),
        (["--tasks", "3"], "array of objects"),
        (["--tasks", '[{"inputs": {}}]'], "name"),
        (["--tasks-file", "none.json"], "cannot be read"),
        (["--tasks", "[]", "--inputs", "{}"], "require an EXECUTOR"),
        (["add", "--inputs", "{"], "--inputs is not valid JSON"),
        (["add", "--timeout", "0"], "--timeout"),
        (["add", "--import", "nowhere"], "no module 'nowhere'"),
    ],
)
def test_what_cannot_be_used_exits_2_and_leaves_nothing(apflow, arguments: list[str], told: str):
    done = apflow("run", "flow", *arguments)
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert done.stdout == ""
    assert apflow.json("tasks", "count")["total"] == 0


def test_every_fault_of_an_array_is_listed(apflow):
    tasks = [{"id": "a", "name": "a"}, {"id": "b", "name": "b", "parent_id": "x", "dependencies": ["y"]}]
    done = apflow("run", "flow", "--tasks", json.dumps(tasks))
    assert done.returncode == 2
    assert "'x'" in done.stderr
    assert "'y'" in done.stderr


def test_a_module_that_does_not_import_is_named_with_its_error(apflow):
    (apflow.folder / "broken.py").write_text("1 / 0\n")
    done = apflow("run", "flow", "add", "--import", "broken")
    assert done.returncode == 2
    assert "Importing 'broken' failed with ZeroDivisionError" in done.stderr
    assert "Traceback" not in done.stderr
    assert "1 / 0" in apflow("run", "flow", "add", "--import", "broken", "--debug").stderr


def test_an_unknown_executor_is_refused_with_advice(apflow):
    done = apflow("run", "flow", "crewai_executor")
    assert done.returncode == 2
    assert "apflow-executor-crewai" in done.stderr
    assert apflow.json("tasks", "count")["total"] == 0


def test_a_run_that_takes_too_long_is_cancelled_and_exits_6(apflow, held):
    done = apflow(
        "run", "flow", "hold", "--inputs", json.dumps(held.inputs), "--import", "works", "--timeout", "1"
    )
    assert done.returncode == 6
    assert "--timeout" in done.stderr
    assert [each["status"] for each in apflow.json("tasks", "list")["tasks"]] == ["cancelled"]


def start_holding(apflow, held) -> subprocess.Popen[str]:
    process = apflow.start("run", "flow", "hold", "--inputs", json.dumps(held.inputs), "--import", "works")
    held.wait_for_start()
    return process


def test_ctrl_c_cancels_the_run_and_waits_for_it(apflow, held):
    process = start_holding(apflow, held)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert held.last_words() == "ended\n"
    assert "It was cancelled" in err
    assert "Traceback" not in err
    assert out == ""
    assert [each["status"] for each in apflow.json("tasks", "list")["tasks"]] == ["cancelled"]


def test_a_second_process_is_told_who_holds_the_database_and_exits_5(apflow, held):
    process = start_holding(apflow, held)
    try:
        for command in (("db", "migrate"), ("tasks", "create", "--tasks", '[{"name": "new"}]')):
            done = apflow(*command)
            assert done.returncode == 5
            assert f"process {process.pid}" in done.stderr
            assert "--wait-lock" in done.stderr
            assert apflow(*command, "--wait-lock", "0.3").returncode == 5
    finally:
        process.kill()
        process.communicate()


def test_a_second_process_waits_for_the_database_when_told_to(apflow, held):
    process = start_holding(apflow, held)
    waiting = apflow.start("tasks", "create", "--tasks", '[{"name": "new"}]', "--wait-lock", "60", "--json")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    _, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 0, err
    listed = apflow.json("tasks", "list")["tasks"]
    assert [each["status"] for each in listed] == ["pending", "cancelled"]


def test_a_killed_run_is_resumed(apflow, held):
    process = start_holding(apflow, held)
    process.kill()
    process.communicate()
    [task] = apflow.json("tasks", "list")["tasks"]
    assert task["status"] == "in_progress"
    assert "apflow tasks resume" in apflow("tasks", "why", task["id"]).stdout
    assert apflow.json("db", "info")["runs_to_resume"] == 1
    assert apflow.json("tasks", "resume", "--all")["tasks"] == []  # its executor is not known there
    going_on = apflow.start("tasks", "resume", "--all", "--import", "works")
    held.wait_for_start()
    held.let_go()
    out, err = going_on.communicate(timeout=60)
    assert going_on.returncode == 0, err
    assert "completed" in out
    assert apflow.json("tasks", "get", task["id"])["task"]["result"] == {"order": "go"}


def test_without_a_storage_tasks_are_kept_in_memory(bare):
    done = bare("run", "flow", "add", "--inputs", '{"a": 4}', "--import", "works")
    assert done.returncode == 0, done.stderr
    assert '{"sum": 5}' in done.stdout


def test_secrets_in_clear_are_not_shown(apflow):
    task = ADD | {"inputs": {"a": 1, "api_key": "sk-12345678"}}
    done = apflow("run", "flow", "--tasks", json.dumps([task]), "--import", "works", "--json")
    assert "sk-12345678" not in done.stdout
    assert json.loads(done.stdout)["root"]["inputs"]["api_key"] == "***"


def test_an_outcome_file_is_whole_or_not_there(apflow, tmp_path: Path):
    apflow("run", "flow", "fail", "--import", "works", "--output", "outcome.json")
    assert sorted(each.name for each in tmp_path.glob("outcome*")) == ["outcome.json"]


SIGNALS = {signal.SIGTERM: 143, signal.SIGHUP: 129}


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_gives_the_run_up_and_resuming_continues_it(apflow, held, number: signal.Signals):
    apflow.environment["APFLOW_SHUTDOWN_TIMEOUT"] = "0"
    process = start_holding(apflow, held)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == SIGNALS[number]
    assert held.last_words() == "ended\n"
    assert number.name in err
    assert "tasks resume" in err
    assert "Traceback" not in err
    (task,) = apflow.json("tasks", "list")["tasks"]
    assert (task["status"], task["attempts"]) == ("pending", 0)
    resumed = apflow.start("tasks", "resume", task["id"], "--import", "works", "--json")
    held.wait_for_start()
    held.let_go()
    _, err = resumed.communicate(timeout=60)
    assert resumed.returncode == 0, err
    (task,) = apflow.json("tasks", "list")["tasks"]
    assert (task["status"], task["result"]) == ("completed", {"order": "go"})


@pytest.mark.parametrize("number", SIGNALS)
def test_running_code_may_end_before_the_run_is_given_up(apflow, held, number: signal.Signals):
    hold = {"id": "1", "name": "hold", "schemas": {"method": "hold"}, "inputs": held.inputs, "parent_id": "0"}
    after = ADD | {"id": "2", "parent_id": "0", "dependencies": ["1"]}
    tasks = json.dumps([{"id": "0", "name": "group"}, hold, after])
    process = apflow.start("run", "flow", "--tasks", tasks, "--import", "works", "--json")
    held.wait_for_start()
    process.send_signal(number)
    assert number.name in process.stderr.readline()
    held.let_go()
    out, _ = process.communicate(timeout=60)
    assert process.returncode == SIGNALS[number]
    outcome = json.loads(out)
    assert outcome["interrupted_by"] == number.name
    by_name = {each["name"]: each["status"] for each in outcome["root"]["children"]}
    assert by_name == {"hold": "completed", "sum": "pending"}
    resumed = apflow.json("tasks", "resume", "--all", "--import", "works")
    assert [each["status"] for each in resumed["tasks"]] == ["completed"]


def test_a_run_that_ends_within_its_drain_has_its_own_exit_code(apflow, held):
    process = start_holding(apflow, held)
    process.send_signal(signal.SIGTERM)
    assert "SIGTERM" in process.stderr.readline()
    held.let_go()
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_resuming_is_drained_too(apflow, held):
    apflow.environment["APFLOW_SHUTDOWN_TIMEOUT"] = "0"
    process = start_holding(apflow, held)
    process.kill()
    process.communicate()
    resumed = apflow.start("tasks", "resume", "--all", "--import", "works")
    held.wait_for_start()
    resumed.send_signal(signal.SIGTERM)
    resumed.communicate(timeout=60)
    assert resumed.returncode == 143
    assert held.last_words() == "ended\n"
    assert [each["status"] for each in apflow.json("tasks", "list")["tasks"]] == ["pending"]


def test_nohup_keeps_its_meaning(apflow, held):
    command = apflow.command("run", "flow", "hold", "--inputs", json.dumps(held.inputs), "--import", "works")
    process = subprocess.Popen(
        ["nohup", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=apflow.folder,
        env=apflow.variables,
    )
    held.wait_for_start()
    process.send_signal(signal.SIGHUP)
    held.let_go()
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_a_terminal_that_closes_drains_the_run(apflow, held):
    apflow.environment["APFLOW_SHUTDOWN_TIMEOUT"] = "0"
    inputs = json.dumps(held.inputs)
    pid, terminal = pty.fork()
    if pid == 0:  # the child leads a session at the terminal
        os.chdir(apflow.folder)
        command = apflow.command("run", "flow", "hold", "--inputs", inputs, "--import", "works")
        os.execve(command[0], command, apflow.variables)
    held.wait_for_start()
    os.read(terminal, 1)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 129
    assert held.last_words() == "ended\n"
    assert [each["status"] for each in apflow.json("tasks", "list")["tasks"]] == ["pending"]


def test_each_command_that_creates_trees_gives_their_roots_a_label_and_tags(apflow):
    given = ("--label", "Import", "--tag", "nightly", "--tag", "eu")
    tree = json.dumps([ADD | {"tags": ["eu"]}])
    ran = apflow.json("run", "flow", "--tasks", tree, *given, "--import", "works")
    of_executor = apflow.json("run", "flow", "add", "-i", "a=1", *given, "--import", "works")
    (apflow.folder / "two.json").write_text(json.dumps([ADD, ADD | {"name": "more"}]))
    both = apflow.json("run", "flow", "two.json", *given, "--import", "works")
    created = apflow.json("tasks", "create", "--tasks", tree, *given)
    scheduled = apflow.json("schedules", "create", "--tasks", tree, "--every", "1d", *given)["schedule"]
    ids = [ran["root_task_id"], of_executor["root_task_id"], created["root"]["id"]]
    ids += [each["root_task_id"] for each in both["trees"]]
    found = [apflow.json("tasks", "get", each)["task"] for each in ids]
    found += apflow.json("schedules", "show", scheduled["id"])["schedule"]["tasks"]
    assert [(each["label"], sorted(each["tags"])) for each in found] == [("Import", ["eu", "nightly"])] * 6
