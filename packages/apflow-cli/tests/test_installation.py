from __future__ import annotations

import sys
from pathlib import Path

import pytest


def test_executors_are_listed_with_those_of_imported_modules(bare):
    found = {each["id"]: each for each in bare.json("executors", "list", "--import", "works")["executors"]}
    assert found["add"]["description"] == "Adds two numbers."
    assert found["add"]["distribution"] is None
    assert "add" not in {each["id"] for each in bare.json("executors", "list")["executors"]}


def test_an_executor_is_shown_with_its_input_schema(bare):
    shown = bare.json("executors", "show", "add", "--import", "works")["executor"]
    assert shown["input_schema"]["required"] == ["a"]
    assert '"required": [' in bare("executors", "show", "add", "--import", "works").stdout


def test_an_unknown_executor_exits_3_with_advice(bare):
    done = bare("executors", "show", "crewai_executor")
    assert done.returncode == 3
    assert "pip install apflow-executor-crewai" in done.stderr


def test_the_versions_of_everything_are_shown(bare):
    shown = bare.json("version")
    assert shown["python"] == ".".join(str(part) for part in sys.version_info[:3])
    assert {"apflow-core", "apflow-cli"} <= set(shown["distributions"])
    assert "apflow-cli" in bare("version").stdout


def test_the_database_is_described(apflow):
    apflow.run({"name": "add", "inputs": {"a": 1}})
    info = apflow.json("db", "info")
    assert info["url"] == apflow.url
    assert info["is_durable"] is True
    assert info["tasks"]["total"] == 1
    assert info["size_bytes"] > 0
    assert info["runs_to_resume"] == 0
    assert "apflow-storage-duckdb" in info["storage"]


def test_a_database_is_brought_up_to_date(apflow):
    done = apflow("db", "migrate")
    assert done.returncode == 0
    assert done.stdout.startswith(f"{apflow.url} is up to date")


def test_a_database_that_cannot_be_opened_exits_5(apflow):
    Path(apflow.url.removeprefix("duckdb:///")).write_text("no database")
    done = apflow("tasks", "list")
    assert done.returncode == 5
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr


def test_a_password_in_a_url_is_not_shown():
    from apflow.core.store.shown_url import shown_url

    assert shown_url("postgresql://ann:secret@db/tasks") == "postgresql://ann:***@db/tasks"
    assert shown_url("duckdb:////data/tasks.duckdb") == "duckdb:////data/tasks.duckdb"


def test_doctor_looks_at_everything(apflow):
    done = apflow.json("doctor", "--import", "works")
    checks = {each["name"]: each for each in done["checks"]}
    assert all(each["is_good"] for each in checks.values())
    assert {
        "python",
        "settings",
        "versions",
        "database",
        "apflow.commands: run",
        "apflow.executors: add",
    } <= set(checks)


def test_doctor_goes_on_after_a_problem_and_exits_1(apflow):
    Path(apflow.url.removeprefix("duckdb:///")).write_text("no database")
    done = apflow("doctor", env={"APFLOW_MAX_CONCURENCY": "3"})
    assert done.returncode == 1
    assert "Did you mean 'APFLOW_MAX_CONCURRENCY'?" in done.stdout
    lines = [line for line in done.stdout.splitlines() if "PROBLEM" in line]
    assert [line.split()[0] for line in lines] == ["settings", "database"]


@pytest.mark.parametrize("url", ["nowhere", "mysql://host/db"])
def test_a_url_that_no_storage_serves_exits_2(bare, url: str):
    done = bare("tasks", "list", env={"APFLOW_DATABASE_URL": url})
    assert done.returncode == 2
    assert url.partition(":")[0] in done.stderr


def test_a_setting_of_the_wrong_kind_exits_2(bare):
    done = bare("tasks", "list", env={"APFLOW_MAX_CONCURRENCY": "many"})
    assert done.returncode == 2
    assert "APFLOW_MAX_CONCURRENCY is 'many'" in done.stderr
