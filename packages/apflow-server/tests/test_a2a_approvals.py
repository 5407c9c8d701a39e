"""A2A: a task that waits for an approval requires input, and a message to the task decides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from a2a.types import GetTaskRequest, ListTasksRequest, TaskState
from a2a_clients import (
    COMPLETED,
    FAILED,
    TRANSPORTS,
    agent,
    calling,
    data_of,
    message,
    replies,
    state_of,
    tree,
)
from asking import FORM, asking, asks
from serving import SECRET, Served, bearer, serving
from trees import steps

from apflow.core.settings import Settings

INPUT_REQUIRED = TaskState.TASK_STATE_INPUT_REQUIRED
WAYS = [pytest.param(t, v, id=f"{t}-{v}") for v in ("1.0", "0.3") for t in TRANSPORTS]
ANN, BOSS = calling(bearer("ann")), calling(bearer("boss", role="manager"))


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with asks(), steps(), serving(Settings(a2a_grpc_bind="127.0.0.1:0")) as found:
        yield found


@pytest.fixture(scope="module")
def guarded() -> Iterator[Served]:
    with asks(), serving(Settings(jwt_secret=SECRET)) as found:
        yield found


async def asked(client: Any, *tasks: dict[str, Any], context: Any = None) -> Any:
    """Run tasks until they require input; return the A2A task."""
    async for each in client.send_message(tree(*tasks), context=context):
        if state_of(each) == INPUT_REQUIRED:
            found = each.task if each.HasField("task") else each.status_update
            task_id = found.id if each.HasField("task") else found.task_id
            return await client.get_task(GetTaskRequest(id=task_id), context=context)
    raise AssertionError("no input was required")


@pytest.mark.parametrize(("transport", "version"), WAYS)
async def test_a_message_to_the_task_decides(served: Served, transport: str, version: str):
    async with agent(served.url, transport=transport, version=version) as client:
        task = await asked(client, asking(form=FORM, data={"version": 2}))
        assert task.status.state == INPUT_REQUIRED
        question = data_of(task.status.message)["approval"]
        assert (question["question"], question["data"], question["form"]) == ("May it?", {"version": 2}, FORM)
        decision = {"approved": True, "answers": {"window": "night"}, "reason": "Fine."}
        found = await replies(
            client.send_message(message(decision, task_id=task.id, context_id=task.context_id))
        )
        assert [state for each in found if (state := state_of(each))][-1] == COMPLETED
        ended = await client.get_task(GetTaskRequest(id=task.id))
        assert ended.status.state == COMPLETED
        result = data_of(ended.status.message)["result"]
        assert (result["approved"], result["answers"], result["reason"]) == (
            True,
            {"window": "night"},
            "Fine.",
        )


async def test_a_text_decides_and_lists_show_the_state(served: Served):
    async with agent(served.url) as client:
        task = await asked(client, asking())
        waiting = await client.list_tasks(ListTasksRequest(status=INPUT_REQUIRED))
        assert task.id in [each.id for each in waiting.tasks]
        working = await client.list_tasks(ListTasksRequest(status=TaskState.TASK_STATE_WORKING))
        assert task.id not in [each.id for each in working.tasks]
        found = await replies(client.send_message(message(text="Reject.", task_id=task.id)))
        assert [state for each in found if (state := state_of(each))][-1] == FAILED
        waiting = await client.list_tasks(ListTasksRequest(status=INPUT_REQUIRED))
        assert task.id not in [each.id for each in waiting.tasks]


async def test_a_message_that_decides_nothing_is_refused_and_the_task_waits_on(served: Served):
    async with agent(served.url) as client:
        task = await asked(client, asking(form=FORM))
        for given, fault in (
            (message(text="perhaps", task_id=task.id), "waits for an approval"),
            (message({"approved": "yes"}, task_id=task.id), "waits for an approval"),
            (message({"approved": True, "answers": {"window": "noon"}}, task_id=task.id), "answers"),
            (message({"approved": True}, task_id=task.id), "window"),
            (message({"approved": True, "task_id": "nothing"}, task_id=task.id), "nothing"),
            (message({"approved": True}, task_id=task.id, context_id="another"), "context"),
        ):
            with pytest.raises(Exception, match=fault):
                await replies(client.send_message(given))
        assert (await client.get_task(GetTaskRequest(id=task.id))).status.state == INPUT_REQUIRED
        await replies(client.send_message(message(text="reject", task_id=task.id)))
        with pytest.raises(Exception, match=r"waits for an approval|contain no tasks|Send a data part"):
            await replies(client.send_message(message(text="approve", task_id=task.id)))


async def test_of_several_approvals_a_message_names_one(served: Served):
    async with agent(served.url) as client:
        root = {"id": "r", "name": "server_steps", "dependencies": ["a", "b"]}
        both = [{**asking(question=each), "id": each, "parent_id": "r"} for each in ("a", "b")]
        task = await asked(client, root, *both)
        found: list[Any] = []
        while len(found) < 2:
            task = await client.get_task(GetTaskRequest(id=task.id))
            found = list(task.status.message.parts)
        with pytest.raises(Exception, match="Name one of these in task_id"):
            await replies(client.send_message(message({"approved": True}, task_id=task.id)))
        ids = [data_of(task.status.message)["approval"]["task_id"]]
        first = message({"approved": True, "task_id": ids[0]}, task_id=task.id)
        async for each in client.send_message(first):
            if state_of(each) == INPUT_REQUIRED:
                break
        last = await replies(client.send_message(message({"approved": True}, task_id=task.id)))
        assert [state for each in last if (state := state_of(each))][-1] == COMPLETED


async def test_only_those_who_may_decide_can(guarded: Served):
    async with agent(guarded.url, headers=bearer("ann")) as client:
        task = await asked(client, asking(users=["boss"]), context=ANN)
        with pytest.raises(Exception, match="Only user 'boss' or an admin may decide"):
            await replies(client.send_message(message(text="approve", task_id=task.id), context=ANN))
        assert (await client.get_task(GetTaskRequest(id=task.id), context=ANN)).status.state == INPUT_REQUIRED
    decision = message({"task_id": task.id}, metadata={"method": "approvals.approve"})
    async with agent(guarded.url, headers=bearer("eve")) as client:
        with pytest.raises(Exception, match=r"does not exist|There is no task"):
            await replies(client.send_message(decision, context=calling(bearer("eve"))))
    async with agent(guarded.url, headers=bearer("boss")) as client:
        [found] = await replies(client.send_message(decision, context=BOSS))
        assert data_of(found.message)["decision"]["by"] == "boss"
