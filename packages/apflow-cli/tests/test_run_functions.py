"""`apflow run flow my_tasks.py:nightly`: flows and functions from a file."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import Any

import pytest

TASKS = """
import os
import signal
from pathlib import Path

from apflow.core import flow, run_sync, task


@task
def price(fruit: str) -> int:
    with open("calls.txt", "a") as calls:
        calls.write(fruit + "\\n")
    return len(fruit)


@task
def total(*prices: int) -> int:
    if Path("crash").exists():
        Path("crash").unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    return sum(prices)


@flow
def nightly(fruits: list[str] = ["fig", "apple"]) -> int:
    return total(*[price(fruit) for fruit in fruits])


number = 3

if __name__ == "__main__":
    print(run_sync(nightly).result)
"""


@pytest.fixture
def file(apflow: Any) -> str:
    (apflow.folder / "my_tasks.py").write_text(TASKS)
    return "my_tasks.py"


def test_a_flow_of_a_file_runs(apflow: Any, file: str):
    outcome = apflow.json("run", "flow", f"{file}:nightly")
    assert (outcome["status"], outcome["result"]) == ("completed", 8)
    assert outcome["root"]["name"] == "nightly"
    assert [each["name"] for each in outcome["root"]["children"]] == ["price", "price-2", "total"]
    assert apflow.json("run", "flow", file, "--inputs", '{"fruits": ["kiwi"]}')["result"] == 4


def test_a_function_of_a_file_runs(apflow: Any, file: str):
    assert apflow.json("run", "flow", f"{file}:price", "--inputs", '{"fruit": "pear"}')["result"] == 4


def test_a_file_in_a_package_is_imported_as_a_part_of_it(apflow: Any, file: str):
    package = apflow.folder / "jobs"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "tasks.py").write_text("from .more import double\nfrom apflow.core import flow\n" + MORE)
    (package / "more.py").write_text(
        "from apflow.core import task\n\n\n@task\ndef double(n: int) -> int:\n    return 2 * n\n"
    )
    outcome = apflow.json("run", "flow", "jobs/tasks.py:nightly")
    assert (outcome["result"], outcome["root"]["children"][0]["schemas"]["method"]) == (4, "jobs.more:double")


MORE = """
@flow
def nightly() -> int:
    return double(2)
"""


def test_a_script_that_is_run_has_the_ids_of_its_module(apflow: Any, file: str):
    done = subprocess.run(
        [sys.executable, file],
        cwd=apflow.folder,
        env=apflow.variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "8\n"), done.stderr
    (root,) = apflow.json("tasks", "list")["tasks"]
    children = apflow.json("tasks", "tree", root["id"])["root"]["children"]
    assert [each["schemas"]["method"] for each in children] == ["my_tasks:price"] * 2 + ["my_tasks:total"]


def test_a_run_whose_process_died_is_resumed_by_a_worker_that_imports_the_module(apflow: Any, file: str):
    (apflow.folder / "crash").touch()
    died = apflow("run", "flow", f"{file}:nightly")
    assert died.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)
    (root,) = apflow.json("tasks", "list")["tasks"]
    outcome = apflow.json("tasks", "resume", root["id"], "--import", "my_tasks")
    tree = apflow.json("tasks", "tree", root["id"])["root"]
    assert (tree["status"], tree["result"]) == ("completed", 8), outcome
    assert sorted((apflow.folder / "calls.txt").read_text().split()) == ["apple", "fig"]


@pytest.mark.parametrize(
    ("target", "inputs", "fault"),
    [
        ("my_tasks.py:weekly", "{}", "my_tasks.py has no 'weekly'. There are: nightly, price, total."),
        ("my_tasks.py:number", "{}", "number in my_tasks.py has neither @flow nor @task."),
        ("other.py:nightly", "{}", "There is no file "),
        ("broken.py:nightly", "{}", "broken.py failed with ZeroDivisionError"),
        ("sub/json.py:nightly", "{}", "another module is called 'json'"),
        ("empty.py", "{}", "empty.py has no flow"),
        ("my_tasks.py:nightly", '{"fruit": 1}', "inputs.fruit: Extra inputs are not permitted"),
        ("my_tasks.py:price", "[]", "--inputs must be a JSON object"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_stored(
    apflow: Any, file: str, target: str, inputs: str, fault: str
):
    (apflow.folder / "broken.py").write_text("1 / 0\n")
    (apflow.folder / "sub").mkdir()
    (apflow.folder / "sub" / "json.py").touch()
    (apflow.folder / "empty.py").touch()
    refused = apflow("run", "flow", target, "--inputs", inputs)
    assert refused.returncode == 2, refused.stderr
    assert fault in " ".join(refused.stderr.split())
    assert apflow.json("tasks", "list")["tasks"] == []
