"""Agents of the setting: each is an executor under its name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from peers.a2aagent import A2aAgent

from apflow.core import TaskCreator, TaskManager, create_session
from apflow.core.errors import SettingsError
from apflow.core.extensions.description import describe_executors
from apflow.core.extensions.registry import get_executor
from apflow.core.settings import reset_settings
from apflow.executor.a2a import A2aExecutor, A2aInputError


@pytest.fixture
def known(agent: A2aAgent, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("APFLOW_A2A_AGENTS", f"oracle={agent.url},broken=ftp://nowhere")
    reset_settings()
    yield
    monkeypatch.undo()
    reset_settings()


@pytest.mark.usefixtures("known")
async def test_a_task_of_that_name_calls_the_agent():
    async with create_session("memory://") as store:
        tree = await TaskCreator(store).create_task_tree_from_array(
            [{"name": "oracle", "inputs": {"message": "hello you"}}]
        )
        await TaskManager(store).distribute_task_tree(tree)
        task = (await store.get([tree.task.id]))[tree.task.id]
    assert (task.status, task.result["text"]) == ("completed", "Hello you")


@pytest.mark.usefixtures("known")
async def test_the_name_may_stand_for_the_url():
    result = await A2aExecutor().execute({"agent": "oracle", "message": "hello"})
    assert result["status"] == "completed"
    with pytest.raises(A2aInputError, match="known names: broken, oracle"):
        await A2aExecutor().execute({"agent": "oracel", "message": "hello"})


@pytest.mark.usefixtures("known")
async def test_a_url_that_is_not_valid_is_reported_with_the_name_of_the_setting():
    with pytest.raises(A2aInputError, match="APFLOW_A2A_AGENTS: broken"):
        await get_executor("broken").make({}).execute({"message": "hello"})


@pytest.mark.usefixtures("known")
def test_the_list_of_executors_shows_them():
    shown = {each["id"]: each for each in describe_executors()}
    oracle = shown["oracle"]
    assert (oracle["is_usable"], oracle["distribution"]) == (True, "apflow-executor-a2a")
    assert "oracle" in oracle["description"]
    assert "agent" not in oracle["input_schema"]["properties"]
    assert "agent" in shown["a2a_executor"]["input_schema"]["properties"]


def test_an_agent_cannot_take_the_name_of_an_executor(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("APFLOW_A2A_AGENTS", "a2a_executor=http://127.0.0.1:1")
    reset_settings()
    try:
        with pytest.raises(SettingsError, match="Rename"):
            get_executor("a2a_executor")
        [shown] = [each for each in describe_executors() if each["id"] == "a2a_executor"]
        assert not shown["is_usable"]
    finally:
        monkeypatch.undo()
        reset_settings()
