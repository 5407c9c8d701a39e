"""What shells complete, without and with a process that holds the database; and what that imports."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HEAVY = {"asyncio", "sqlalchemy", "pydantic", "httpx", "rich", "duckdb", "yaml", "orjson", "jsonschema_rs"}
SHOW_MODULES = (
    "import atexit, sys\n"
    "atexit.register(lambda: print(sorted(sys.modules), file=sys.stderr))\n"
    "import runpy; runpy.run_module('apflow.cli', run_name='__main__')"
)


def asking(words: str, shell: str = "bash") -> dict[str, str]:
    count = len(words.split()) - (0 if words.endswith(" ") else 1)
    return {"_APFLOW_COMPLETE": f"{shell}_complete", "COMP_WORDS": words, "COMP_CWORD": str(count)}


def completed(program: Any, words: str, **more: str) -> list[str]:
    done = program(env=asking(words) | more)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("apflow va", ["plain,validate"]),
        ("apflow comp", ["plain,completion"]),
        ("apflow tasks sta", ["plain,status"]),
        ("apflow tasks list --status comp", ["plain,completed"]),
        ("apflow config get net_", ["plain,net_policy", "plain,net_allow"]),
        ("apflow config unset APFLOW_JWT_S", ["plain,APFLOW_JWT_SECRET"]),
        ("apflow executors show system_", ["plain,system_info_executor"]),
        ("apflow run flow system_", ["plain,system_info_executor"]),
        ("apflow run flow ./tree", ["file,./tree"]),
        ("apflow run flow --tasks-file tr", ["file,tr"]),
        ("apflow validate ", ["file,"]),
        ("apflow completion ", ["plain,bash", "plain,zsh", "plain,fish"]),
        ("apflow tasks get x", []),
        ("apflow nothing x", []),
    ],
)
def test_words_are_completed(bare: Any, words: str, expected: list[str]):
    pytest.importorskip("apflow.executor.system_info")
    assert completed(bare, words) == expected


def test_settings_and_commands_are_described(bare: Any):
    for words, expected in (("config get bind", "address and port"), ("whoa", "Show who you are")):
        _, value, about = bare(env=asking(f"apflow {words}", "zsh")).stdout.splitlines()
        assert value.startswith(words.split()[-1])
        assert expected in about


def test_ids_are_completed_from_a_database_that_no_process_holds(apflow: Any):
    tasks = [{"id": "root-1", "name": "r"}, {"id": "child 2", "name": "c", "parent_id": "root-1"}]
    tasks.append({"id": "child-3", "name": "c", "parent_id": "root-1"})
    apflow.json("tasks", "create", "--tasks", json.dumps(tasks))
    assert completed(apflow, "apflow tasks tree ") == ["plain,root-1"]
    # An id with a space would become two words in some shells.
    assert completed(apflow, "apflow tasks get child") == ["plain,child-3"]


def test_completion_creates_no_database(apflow: Any):
    assert completed(apflow, "apflow tasks tree ") == []
    assert [each.name for each in apflow.folder.iterdir()] == ["works.py"]


def test_ids_are_completed_by_the_process_that_holds_the_database(apflow: Any, held: Any):
    process = apflow.start("run", "flow", "hold", "--inputs", json.dumps(held.inputs), "--import", "works")
    try:
        held.wait_for_start()
        apflow.json("tasks", "count")  # the first answer of the process takes longer
        [root] = completed(apflow, "apflow tasks tree ")
        assert root.startswith("plain,")
        modules = modules_of(apflow.variables | asking("apflow tasks tree "))
        assert modules.isdisjoint(HEAVY)
        held.let_go()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()


def modules_of(environment: dict[str, str]) -> set[str]:
    command = [sys.executable, "-c", SHOW_MODULES]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return set(eval(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize("words", ["apflow tasks get ", "apflow run flow ", "apflow config get ", "apflow "])
def test_completion_imports_no_heavy_module(bare: Any, words: str):
    modules = modules_of(bare.variables | asking(words) | {"APFLOW_API_URL": "http://127.0.0.1:1"})
    assert "click.shell_completion" in modules
    assert modules.isdisjoint(HEAVY)


@pytest.mark.parametrize(
    "environment",
    [
        {"APFLOW_API_URL": "http://127.0.0.1:1"},
        {"APFLOW_API_URL": "nonsense"},
        {"APFLOW_MAX_TASKS": "many"},
        {"APFLOW_UNKNOWN": "1"},
        {"APFLOW_DATABASE_URL": "duckdb:////nowhere/at/all.duckdb"},
    ],
)
def test_what_fails_prints_nothing_into_the_line(bare: Any, environment: dict[str, str]):
    done = bare(env=asking("apflow tasks get ") | environment)
    assert done.stdout.strip() == done.stderr == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_calls_the_program(bare: Any, shell: str):
    done = bare("completion", shell)
    assert done.returncode == 0
    assert f"_APFLOW_COMPLETE={shell}_complete" in done.stdout
    assert "apflow" in done.stdout


def test_bash_completes_with_the_script(bare: Any):
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    script = """
    eval "$(apflow completion bash)"
    COMP_WORDS=(apflow tasks wa); COMP_CWORD=2
    _apflow_completion apflow
    echo "${COMPREPLY[@]}"
    """
    path = str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"]
    done = subprocess.run(
        [bash, "--norc", "-c", script],
        env=bare.variables | {"PATH": path},
        cwd=bare.folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "watch\n", done


@pytest.mark.parametrize(("shell", "option"), [("zsh", "-n"), ("fish", "--no-execute")])
def test_other_shells_accept_their_script(bare: Any, shell: str, option: str):
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    file = bare.folder / "script"
    file.write_text(bare("completion", shell).stdout)
    subprocess.run([program, option, str(file)], check=True, timeout=30)
