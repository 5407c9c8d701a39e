"""A2A: a task whose tree was deleted does not exist, and nothing of it is left."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from a2a.types import (
    CancelTaskRequest,
    GetTaskRequest,
    ListTaskPushNotificationConfigsRequest,
    ListTasksRequest,
    SubscribeToTaskRequest,
    TaskPushNotificationConfig,
)
from a2a_clients import COMPLETED, TRANSPORTS, agent, last_state, message, replies, run_task, tree
from serving import Served, serving
from trees import Steps, steps

from apflow.core.settings import Settings

PLAIN: dict[str, Any] = {"name": Steps.id, "inputs": {"n": 7}}
KINDS = ("tree", "a2a.context", "webhook", "webhook.ended")


@pytest.fixture
def served() -> Iterator[Served]:
    settings = Settings(a2a_grpc_bind="127.0.0.1:0", credentials_key="a key of tests")
    with steps(), serving(settings) as found:
        yield found


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_deleted_task_does_not_exist(served: Served, transport: str):
    async with agent(served.url, transport=transport) as client:
        task = await run_task(client, tree(PLAIN, context_id="talk"))
        other = await run_task(client, tree(PLAIN, context_id="talk"))
        delete(served, task.id)
        calls = [
            client.get_task(GetTaskRequest(id=task.id)),
            client.cancel_task(CancelTaskRequest(id=task.id)),
            replies(client.subscribe(SubscribeToTaskRequest(id=task.id))),
            replies(client.send_message(tree(PLAIN, task_id=task.id))),
            replies(client.send_message(message({}, metadata={"task_id": task.id}))),
            client.list_task_push_notification_configs(
                ListTaskPushNotificationConfigsRequest(task_id=task.id)
            ),
        ]
        for each in calls:
            with pytest.raises(Exception, match=r"does not exist|no task"):
                await each
        for request in (ListTasksRequest(context_id="talk"), ListTasksRequest()):
            page = await client.list_tasks(request)
            assert ([each.id for each in page.tasks], page.total_size) == ([other.id], 1)


async def test_a_tree_with_the_id_of_a_deleted_one_has_nothing_of_it(served: Served):
    async with agent(served.url) as client:
        mine = {"id": "mine", **PLAIN}
        await run_task(client, tree(mine, context_id="talk"))
        await run_task(client, message({}, metadata={"task_id": "mine"}))
        config = TaskPushNotificationConfig(task_id="mine", id="hook", url=f"{served.url}/health")
        await client.create_task_push_notification_config(config)
        delete(served, "mine")
        request = tree(mine, context_id="other talk")
        found = await replies(client.send_message(request))
        assert (found[0].task.id, found[0].task.context_id, last_state(found)) == (
            "mine", "other talk", COMPLETED,
        )  # fmt: skip
        task = await client.get_task(GetTaskRequest(id="mine"))
        assert [each.message_id for each in task.history] == [request.message.message_id, "mine:final"]
        with pytest.raises(Exception, match="does not exist"):
            await client.get_task(GetTaskRequest(id="mine.2"))
        assert (await client.list_tasks(ListTasksRequest(context_id="talk"))).total_size == 0
        configs = ListTaskPushNotificationConfigsRequest(task_id="mine")
        assert not (await client.list_task_push_notification_configs(configs)).configs


async def test_nothing_is_left_of_a_deleted_tree(served: Served):
    async with agent(served.url) as client:
        task = await run_task(client, tree(PLAIN, context_id="talk"))
        hook = TaskPushNotificationConfig(task_id=task.id, id="hook", url=f"{served.url}/health")
        await client.create_task_push_notification_config(hook)
        delete(served, task.id)
        await client.list_tasks(ListTasksRequest(context_id="talk"))
        left = {kind: await served.db.records(kind) for kind in KINDS}
        assert not any(left.values()), left


async def test_records_that_a_crash_has_left_are_those_of_no_other_tree(served: Served):
    """A process that dies between the deletion of a tree and that of its records leaves these."""
    async with agent(served.url) as client:
        mine = {"id": "mine", **PLAIN}
        await run_task(client, tree(mine, context_id="talk"))
        records = [each for kind in KINDS for each in await served.db.records(kind)]
        delete(served, "mine")
        for each in records:
            await served.db.put_record(each.kind, each.key, each.value)
        request = tree(mine)
        task = await run_task(client, request)
        assert task.context_id == "mine"
        assert [each.message_id for each in task.history] == [request.message.message_id, "mine:final"]
        assert (await client.list_tasks(ListTasksRequest(context_id="talk"))).total_size == 0


def delete(served: Served, task_id: str) -> None:
    call = {"task_id": task_id, "force": True}
    answer = httpx.post(f"{served.url}/call/tasks.delete", json=call, trust_env=False, timeout=60)
    assert answer.json()["success"], answer.text
