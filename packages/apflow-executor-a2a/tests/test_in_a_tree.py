"""Calls of an agent as tasks of a tree: progress, results of other tasks, secrets, cancellation."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from peers.a2aagent import BINDINGS, A2aAgent, a2a_agent
from peers.apflowserver import until

from apflow.core import TaskCreator, TaskManager, create_session
from apflow.core.model.task import Task
from apflow.core.settings import reset_settings

SECRET = "a-token-that-must-stay-secret"


async def run(
    tasks: list[dict[str, Any]], database: str = "memory://"
) -> tuple[dict[str, Task], list[dict[str, Any]]]:
    """Run a tree; return its tasks by name, and its events."""
    async with create_session(database) as store:
        manager = TaskManager(store)
        tree = await TaskCreator(store).create_task_tree_from_array(tasks)
        events: list[dict[str, Any]] = []

        async def listen() -> None:
            events.extend([event.to_dict() async for event in manager.subscribe(tree.task.id, 0)])

        async with asyncio.TaskGroup() as group:
            group.create_task(listen())
            await manager.distribute_task_tree(tree)
        return {each.name: each for each in await store.tree(tree.task.id)}, events


def stored_in(folder: Path) -> bytes:
    return b"".join(each.read_bytes() for each in folder.glob("here.duckdb*"))


async def test_updates_of_the_agent_are_progress_of_the_task(agent: A2aAgent):
    inputs = {"agent": agent.url, "message": "work"}
    tasks, events = await run([{"name": "a2a_executor", "inputs": inputs}])
    assert tasks["a2a_executor"].status == "completed"
    reported = [each for each in events if each["type"] == "progress"]
    assert reported
    assert {each["data"]["task_id"] for each in reported} == {tasks["a2a_executor"].result["task_id"]}
    assert any(each["data"].get("artifact") or each["message"] for each in reported)


async def test_progress_of_a_server_of_apflow_is_that_of_the_task(
    agent: A2aAgent, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("APFLOW_PROGRESS_INTERVAL", "0")
    reset_settings()
    inputs = {"agent": agent.url, "message": "work"}
    try:
        _, events = await run([{"name": "a2a_executor", "inputs": inputs}])
    finally:
        monkeypatch.undo()
        reset_settings()
    reported = [each for each in events if each["type"] == "progress"]
    fractions = [each["progress"] for each in reported if each["progress"] is not None]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 0.5
    messages = [each["message"] for each in reported if each["message"] is not None]
    assert messages.index("step 1") < messages.index("step 2")


async def test_the_result_of_one_agent_is_the_message_to_another(agent: A2aAgent):
    tasks = [
        {"id": "last", "name": "last", "schemas": {"method": "a2a_executor"}, "dependencies": ["first"]},
        {"id": "first", "name": "first", "parent_id": "last", "schemas": {"method": "a2a_executor"}},
    ]
    tasks[0]["inputs"] = {"agent": agent.url, "message": {"$from": "first", "path": "data[0]"}}
    tasks[1]["inputs"] = {"agent": agent.url, "message": "work"}
    done, _ = await run(tasks)
    assert done["last"].status == "completed"
    assert done["last"].result["data"] == done["first"].result["data"]


async def test_a_question_is_the_result_of_the_failed_task(agent: A2aAgent):
    done, _ = await run([{"name": "a2a_executor", "inputs": {"agent": agent.url, "message": "ask"}}])
    task = done["a2a_executor"]
    assert task.status == "failed"
    assert task.error is not None
    assert "Which city?" in task.error
    assert task.result["error_type"] == "A2aInputRequiredError"
    assert task.result["task_id"]
    assert task.result["context_id"]


@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_credential_reaches_the_agent_and_nothing_else(
    binding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("DEBUG")
    monkeypatch.setenv("APFLOW_SECRET_AGENT", SECRET)
    with a2a_agent([binding], token=SECRET) as agent:
        tasks = [
            {"id": "r", "name": "r", "schemas": {"method": "a2a_executor"}, "dependencies": ["a", "b"]},
            {"id": "a", "name": "a", "parent_id": "r", "schemas": {"method": "a2a_executor"}},
            {"id": "b", "name": "b", "parent_id": "r", "schemas": {"method": "a2a_executor"}},
        ]
        base = {"agent": agent.url, "auth_token": {"$secret": "AGENT"}}
        tasks[0]["inputs"] = base | {"message": "hello"}
        tasks[1]["inputs"] = base | {"message": {"token": {"$secret": "AGENT"}}}
        tasks[2]["inputs"] = base | {"message": "hello", "headers": {"X-Key": {"$secret": "AGENT"}}}
        done, events = await run(tasks, f"duckdb:///{tmp_path / 'here.duckdb'}")
        assert [each.status for each in done.values()] == ["completed"] * 3
        refused, more = await run(
            [{"name": "a2a_executor", "inputs": {"agent": agent.url, "message": "hello", "auth_token": "x"}}]
        )
        if binding != "GRPC":
            assert refused["a2a_executor"].result["error_type"] == "A2aUnauthorizedError"
            assert any(each.get("x-key") == SECRET for each in agent.headers)
    said = [f"{each.error} {each.result} {each.inputs}" for each in done.values()]
    stored = stored_in(tmp_path)
    logged = [each.getMessage() for each in caplog.records if each.threadName != "a2a agent"]
    assert SECRET not in f"{said} {events} {more} {logged}"
    assert SECRET.encode() not in stored


async def test_a_secret_that_is_bound_to_other_hosts_is_not_sent(
    agent: A2aAgent, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("APFLOW_SECRET_AGENT", SECRET)
    monkeypatch.setenv("APFLOW_SECRET_POLICY", '{"AGENT": {"hosts": ["agents.example.com"], "users": ["*"]}}')
    before = len(agent.headers)
    inputs = {"agent": agent.url, "message": "hello", "auth_token": {"$secret": "AGENT"}}
    done, _ = await run([{"name": "a2a_executor", "inputs": inputs}])
    assert done["a2a_executor"].result["error_type"] == "SecretHostRefusedError"
    assert len(agent.headers) == before


async def test_cancelling_the_tree_cancels_the_task_of_the_agent(own_agent: A2aAgent):
    async with create_session("memory://") as store:
        manager = TaskManager(store)
        inputs = {"agent": own_agent.url, "message": "hold"}
        task = [{"name": "a2a_executor", "inputs": inputs}]
        tree = await TaskCreator(store).create_task_tree_from_array(task)
        running = asyncio.create_task(manager.distribute_task_tree(tree))
        async for event in manager.subscribe(tree.task.id, 0):
            if event.type == "progress":
                break
        await manager.cancel_task(tree.task.id)
        await running
        ended = (await store.get([tree.task.id]))[tree.task.id]
    assert ended.status == "cancelled"
    assert own_agent.cancelled == [ended.result["partial_result"]["task_id"]]
    await until(lambda: not own_agent.working)


async def test_all_attempts_of_a_task_send_the_same_message_id(agent: A2aAgent):
    policy = {"retry": {"max_attempts": 2, "delay": 0.01}}
    inputs = {"agent": agent.url, "message": "fail again"}
    before = len(agent.messages)
    done, _ = await run([{"id": "same", "name": "a2a_executor", "inputs": inputs, "policy": policy}])
    assert done["a2a_executor"].attempts == 2
    await run([{"id": "same", "name": "a2a_executor", "inputs": inputs}])
    first, second, third = [each.message_id for each in agent.messages[before:]]
    assert first == second
    assert first != third, "another database"


async def test_two_hundred_calls_at_once(agent: A2aAgent):
    tasks: list[dict[str, Any]] = [{"id": "all", "name": "all"}]
    tasks += [
        {
            "id": f"{at}",
            "name": f"{at}",
            "parent_id": "all",
            "schemas": {"method": "a2a_executor"},
            "inputs": {"agent": agent.url, "message": f"echo {at}"},
        }
        for at in range(200)
    ]
    done, _ = await run(tasks)
    assert [done[f"{at}"].result["text"] for at in range(200)] == [f"echo {at}" for at in range(200)]
