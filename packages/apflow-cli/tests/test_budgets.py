"""`apflow tasks budget` and `apflow tasks usage`."""

from __future__ import annotations

import json
from typing import Any

import pytest

ASKS = """
from apflow.core import BaseTask, ModelRequest, ModelUsage, executor_register, model_call


@executor_register()
class Asks(BaseTask):
    id = "asks"

    async def execute(self, inputs):
        async with model_call(ModelRequest(model="m")) as call:
            call.record(ModelUsage(input_tokens=10, output_tokens=5, cost_usd=0.25))
"""
TREE = [
    {"id": "root-task", "name": "all", "budget": {"calls": 1}},
    {"id": "task-a", "name": "asks", "parent_id": "root-task"},
    {"id": "task-b", "name": "asks", "parent_id": "root-task"},
]


@pytest.fixture
def asks(apflow: Any) -> Any:
    (apflow.folder / "asks.py").write_text(ASKS)
    done = apflow("run", "flow", "--tasks", json.dumps(TREE), "--import", "asks")
    assert done.returncode == 1
    assert "apflow tasks budget root-task --calls" in done.stdout + done.stderr
    return apflow


def test_a_budget_is_shown_and_raised_and_the_tree_goes_on(asks: Any):
    found = asks.json("tasks", "budget", "root-task")["budget"]
    assert (found["limits"], found["spent"]["calls"], found["left"]) == ({"calls": 1}, 1, {"calls": 0})
    found = asks.json("tasks", "budget", "root-task", "--calls", "5", "--on-exceed", "wait")["budget"]
    assert (found["limits"], found["on_exceed"]) == ({"calls": 5}, "wait")
    assert asks("tasks", "execute", "root-task", "--import", "asks").returncode == 0
    done = asks("tasks", "budget", "root-task")
    assert done.stdout.splitlines()[0].split() == ["AMOUNT", "LIMIT", "SPENT", "RESERVED", "LOST", "LEFT"]
    assert [line.split()[:3] for line in done.stdout.splitlines() if line.startswith("calls")] == [
        ["calls", "5", "2"]
    ]
    assert "waits until the budget is raised" in done.stdout


def test_usage_is_summed_up_for_a_task_or_for_all(asks: Any):
    found = asks.json("tasks", "usage")["usage"]
    assert found["total"]["calls"] == 1
    assert [each["model"] for each in found["groups"]] == ["m"]
    by_task = asks.json("tasks", "usage", "root-task", "--by", "task")["usage"]["groups"]
    assert len(by_task) == 1
    lines = asks("tasks", "usage").stdout.splitlines()
    assert lines[0].split() == ["MODEL", "CALLS", "INPUT_TOKENS", "OUTPUT_TOKENS", "COST_USD", "SECONDS"]
    assert lines[-1].split()[:5] == ["total", "1", "10", "5", "0.250000"]
    assert asks.json("tasks", "get", "root-task")["task"]["usage"]["by_model"]["m"]["total_tokens"] == 15


@pytest.mark.parametrize("value", ["nan", "-1", "x"])
def test_a_limit_that_is_not_a_number_from_0_on_is_refused(bare: Any, value: str):
    done = bare("tasks", "budget", "any", "--usd", value)
    assert done.returncode == 2
    assert "--usd" in done.stderr


def test_a_task_without_a_budget_needs_a_limit(apflow: Any):
    apflow.run({"id": "root-task", "name": "add", "inputs": {"a": 1}})
    done = apflow("tasks", "budget", "root-task")
    assert done.returncode == 2
    assert "has no budget. Give a limit" in done.stderr
