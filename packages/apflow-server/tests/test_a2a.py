"""A2A: the official client on every transport and version."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from a2a.types import (
    CancelTaskRequest,
    GetTaskRequest,
    ListTasksRequest,
    SendMessageConfiguration,
    SubscribeToTaskRequest,
    TaskState,
)
from a2a_clients import (
    CANCELED,
    COMPLETED,
    FAILED,
    TRANSPORTS,
    agent,
    artifacts_of,
    data_of,
    final_of,
    last_state,
    message,
    names,
    replies,
    state_of,
    tree,
)
from serving import Served, serving
from trees import Steps, steps

from apflow.core.model.status import TaskStatus
from apflow.core.settings import Settings, reset_settings
from apflow.server.a2a.projection import STATES

WAYS = [pytest.param(t, v, id=f"{t}-{v}") for v in ("1.0", "0.3") for t in TRANSPORTS]
PLAIN = [{"id": "r", "name": "group"}, {"id": "c", "name": Steps.id, "parent_id": "r", "inputs": {"n": 7}}]
WAITING = [
    {"id": "r", "name": "group"},
    {"id": "c", "name": Steps.id, "parent_id": "r", "inputs": {"waits": True, "n": 1}},
]


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with steps(), serving(Settings(a2a_grpc_bind="127.0.0.1:0")) as found:
        yield found


@pytest.fixture(autouse=True)
def wait() -> Iterator[None]:
    Steps.go_on.clear()
    yield
    Steps.go_on.set()


@pytest.mark.parametrize(("transport", "version"), WAYS)
async def test_a_tree_is_executed_with_streaming(served: Served, transport: str, version: str):
    async with agent(served.url, transport=transport, version=version) as client:
        found = await replies(client.send_message(tree(*PLAIN)))
        assert found[0].HasField("task")
        assert last_state(found) == COMPLETED
        assert list(artifacts_of(found)) == [Steps.id, "result"]
        assert artifacts_of(found)[Steps.id]["result"] == {"n": 7}
        final = final_of(found)
        assert (final["protocol"], final["status"], final["progress"]) == ("a2a", "completed", 1)
        assert final["task_count"] == 2
        task = await client.get_task(GetTaskRequest(id=found[0].task.id))
        assert task.status.state == COMPLETED
        assert names(task) == [Steps.id, "result"]
        assert final["root_task_id"] == task.id


@pytest.mark.parametrize(("transport", "version"), WAYS)
async def test_a_running_tree_is_cancelled(served: Served, transport: str, version: str):
    async with agent(served.url, transport=transport, version=version) as client:
        stream = client.send_message(tree(*WAITING))
        first = await anext(aiter(stream))
        await started(served, first.task.id)
        cancelled = await client.cancel_task(CancelTaskRequest(id=first.task.id))
        assert cancelled.status.state == CANCELED
        rest = await replies(stream)
        assert last_state(rest) == CANCELED
        with pytest.raises(Exception, match=r"ended|cancel"):
            await client.cancel_task(CancelTaskRequest(id=first.task.id))


@pytest.mark.parametrize(("transport", "version"), WAYS)
async def test_a_second_connection_subscribes(served: Served, transport: str, version: str):
    async with (
        agent(served.url, transport=transport, version=version) as client,
        agent(served.url, transport=transport, version=version) as second,
    ):
        stream = client.send_message(tree(*WAITING))
        first = await anext(aiter(stream))
        await started(served, first.task.id)
        other = second.subscribe(SubscribeToTaskRequest(id=first.task.id))
        snapshot = await anext(aiter(other))
        assert snapshot.task.id == first.task.id
        assert state_of(snapshot) == TaskState.TASK_STATE_WORKING
        Steps.go_on.set()
        assert last_state(await replies(other)) == COMPLETED
        assert last_state(await replies(stream)) == COMPLETED
        with pytest.raises(Exception, match=r"ended|400"):
            await replies(second.subscribe(SubscribeToTaskRequest(id=first.task.id)))


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_lists_are_paged_and_filtered(served: Served, transport: str):
    async with agent(served.url, transport=transport) as client:
        made = [
            await replies(client.send_message(tree(*PLAIN, context_id=f"listed-{transport}")))
            for _ in range(3)
        ]
        ids = {each[0].task.id for each in made}
        request = ListTasksRequest(context_id=f"listed-{transport}", page_size=2)
        page = await client.list_tasks(request)
        assert (len(page.tasks), page.total_size) == (2, 3)
        request.page_token = page.next_page_token
        rest = await client.list_tasks(request)
        assert {each.id for each in [*page.tasks, *rest.tasks]} == ids
        assert rest.next_page_token == ""
        failed = ListTasksRequest(context_id=f"listed-{transport}", status=FAILED)
        assert (await client.list_tasks(failed)).total_size == 0
        everything: list[str] = []
        token = ""
        while True:
            found = await client.list_tasks(ListTasksRequest(page_size=5, page_token=token))
            everything += [each.id for each in found.tasks]
            token = found.next_page_token
            if not token:
                break
        assert ids <= set(everything)
        assert len(everything) == len(set(everything)) == found.total_size
        done = await client.list_tasks(ListTasksRequest(status=COMPLETED, page_size=100))
        assert ids <= {each.id for each in done.tasks}


async def test_a_message_without_streaming_waits_or_returns_at_once(served: Served):
    call: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage"}
    params = {"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"data": {"tasks": WAITING}}]}}
    async with httpx.AsyncClient(base_url=served.url, headers={"A2A-Version": "1.0"}, timeout=30) as http:
        at_once = params | {"configuration": {"returnImmediately": True}}
        answer = (await http.post("/", json=call | {"params": at_once})).json()
        assert answer["result"]["task"]["status"]["state"] in ("TASK_STATE_SUBMITTED", "TASK_STATE_WORKING")
        Steps.go_on.set()
        answer = (await http.post("/", json=call | {"params": params})).json()
        assert answer["result"]["task"]["status"]["state"] == "TASK_STATE_COMPLETED"


async def test_integers_stay_integers(served: Served):
    async with agent(served.url) as client:
        found = await replies(
            client.send_message(tree({"name": Steps.id, "inputs": {"n": 3}, "priority": 1}))
        )
        root = (await served.db.get([found[0].task.id]))[found[0].task.id]
        assert (type(root.inputs["n"]), root.priority) == (int, 1)


async def test_a_task_is_a_part_and_its_id_a_key(served: Served):
    async with agent(served.url) as client:
        request = message({"id": "root", "name": "group"})
        request.message.parts.extend(
            message({"id": "child", "name": Steps.id, "parent_id": "root"}).message.parts
        )
        found = await replies(client.send_message(request))
        assert (last_state(found), final_of(found)["task_count"]) == (COMPLETED, 2)


async def test_an_operation_is_answered_with_a_message(served: Served):
    async with agent(served.url) as client:
        (reply,) = await replies(client.send_message(message({}, metadata={"method": "system.health"})))
        assert data_of(reply.message)["status"] == "healthy"
        (reply,) = await replies(client.send_message(message(metadata={"skill_id": "tasks.count"}, text=" ")))
        assert "total" in data_of(reply.message)


async def test_a_skill_names_an_executor(served: Served):
    async with agent(served.url) as client:
        found = await replies(client.send_message(message({"n": 5}, metadata={"skill_id": Steps.id})))
        assert final_of(found)["result"] == {"n": 5}


async def test_a_tree_is_copied_with_its_children(served: Served):
    async with agent(served.url) as client:
        original = (await replies(client.send_message(tree(*PLAIN))))[0].task
        copying = {"task_id": original.id, "copy_execution": True, "copy_children": True, "stream": True}
        found = await replies(client.send_message(message({}, metadata=copying)))
        final = final_of(found)
        assert final["metadata"] == {"original_task_id": original.id}
        assert final["root_task_id"] != original.id
        assert final["task_count"] == 2
        assert found[0].task.context_id == original.context_id
        referenced = message(reference_task_ids=[original.id], metadata={"copy_execution": True})
        assert final_of(await replies(client.send_message(referenced)))["metadata"] == {
            "original_task_id": original.id
        }


async def test_a_second_execution_is_another_task_in_the_same_context(served: Served):
    async with agent(served.url) as client:
        first = (await replies(client.send_message(tree({"name": Steps.id, "inputs": {"fails": 9}}))))[-1]
        assert state_of(first) == FAILED
        task_id = first.status_update.task_id
        again = message({}, metadata={"task_id": task_id})
        found = await replies(client.send_message(again))
        assert found[0].task.id == f"{task_id}.2"
        assert found[0].task.context_id == first.status_update.context_id
        old = await client.get_task(GetTaskRequest(id=task_id))
        new = await client.get_task(GetTaskRequest(id=f"{task_id}.2"))
        assert (old.status.state, new.status.state) == (FAILED, FAILED)
        assert old.status.timestamp.ToNanoseconds() < new.status.timestamp.ToNanoseconds()
        listed = await client.list_tasks(ListTasksRequest(context_id=task_id))
        assert {each.id for each in listed.tasks} <= {task_id, f"{task_id}.2"}


async def test_a_follow_up_finds_the_context_of_its_task(served: Served):
    async with agent(served.url) as client:
        first = (await replies(client.send_message(tree(*PLAIN, context_id="talk"))))[0].task
        assert first.context_id == "talk"
        by_task = (await replies(client.send_message(tree(*PLAIN, task_id=first.id))))[0].task
        by_context = (await replies(client.send_message(tree(*PLAIN, context_id="talk"))))[0].task
        assert by_task.context_id == by_context.context_id == "talk"
        assert len({first.id, by_task.id, by_context.id}) == 3
        page = await client.list_tasks(ListTasksRequest(context_id="talk"))
        assert {each.id for each in page.tasks} == {first.id, by_task.id, by_context.id}
        with pytest.raises(Exception, match="is in context talk"):
            await replies(client.send_message(tree(*PLAIN, task_id=first.id, context_id="other")))


async def test_a_message_without_parts_cancels(served: Served):
    async with agent(served.url) as client:
        stream = client.send_message(tree(*WAITING))
        first = await anext(aiter(stream))
        await started(served, first.task.id)
        request = message(task_id=first.task.id, metadata={"error_message": "not needed"})
        (reply,) = await replies(client.send_message(request))
        said = data_of(reply.message)
        assert (said["protocol"], said["status"]) == ("a2a", "cancelled")
        assert last_state(await replies(stream)) == CANCELED
        task = (await served.db.tree(first.task.id))[1]
        assert task.error == "not needed"


async def test_bad_messages_have_clear_errors(served: Served):
    async with agent(served.url) as client:
        for request, said in (
            (message(text="Do something."), "contain no tasks"),
            (message({}, metadata={"method": "tasks.lst"}), "tasks.list"),
            (tree({"id": "a", "name": "x"}, {"id": "b", "name": "y"}), "root"),
            (message({}, metadata={"task_id": "there-is-none"}), "there-is-none"),
            (message({}, metadata={"method": "tasks.get"}), "task_id"),
        ):
            with pytest.raises(Exception, match=said):
                await replies(client.send_message(request))


async def test_an_unexpected_error_does_not_leak(served: Served, monkeypatch: pytest.MonkeyPatch):
    async def broken(*_: object) -> None:
        raise RuntimeError("the password is hunter2")

    monkeypatch.setattr(type(served.db), "tree", broken)
    monkeypatch.setattr(type(served.db), "existing_tree", broken)
    for transport in TRANSPORTS:
        async with agent(served.url, transport=transport) as client:
            with pytest.raises(Exception, match="incident") as caught:
                await replies(client.send_message(tree({"name": Steps.id})))
            assert "hunter2" not in str(caught.value)


async def test_a_client_that_goes_away_changes_nothing(served: Served):
    async with agent(served.url) as client:
        stream = client.send_message(tree(*WAITING))
        first = await anext(aiter(stream))
        await started(served, first.task.id)
        await stream.aclose()  # type: ignore[attr-defined]
    Steps.go_on.set()
    async with agent(served.url) as client:
        async with asyncio.timeout(200):
            while (await client.get_task(GetTaskRequest(id=first.task.id))).status.state != COMPLETED:
                await asyncio.sleep(0.05)


async def test_a_task_over_a2a_is_the_same_tree_elsewhere(served: Served):
    async with agent(served.url) as client:
        found = await replies(client.send_message(tree(*PLAIN)))
    async with httpx.AsyncClient(base_url=served.url) as http:
        task_id = found[0].task.id
        stored = (await http.post("/call/tasks.tree", json={"task_id": task_id})).json()
        assert (stored["status"], len(stored["children"])) == ("completed", 1)
        created = (await http.post("/call/tasks.execute", json={"tasks": PLAIN, "wait": True})).json()
    async with agent(served.url) as client:
        task = await client.get_task(GetTaskRequest(id=created["root_task_id"]))
        assert (task.status.state, task.context_id) == (COMPLETED, task.id)


async def test_a_child_is_not_a_task_of_the_agent(served: Served):
    async with agent(served.url) as client:
        root_id = (await replies(client.send_message(tree(*PLAIN))))[0].task.id
        child = (await served.db.tree(root_id))[1]
        with pytest.raises(Exception, match="does not exist"):
            await client.get_task(GetTaskRequest(id=child.id))


async def test_a_configuration_of_the_request_is_kept(served: Served):
    async with agent(served.url) as client:
        request = tree(*WAITING)
        request.configuration.CopyFrom(SendMessageConfiguration(return_immediately=True))
        first = await anext(aiter(client.send_message(request)))
        assert first.HasField("task")
        await client.cancel_task(CancelTaskRequest(id=first.task.id))


async def started(served: Served, root_id: str) -> None:
    """Wait until the executor of a tree runs."""
    async with asyncio.timeout(200):
        while not any(
            each.started_at and each.executor == Steps.id for each in await served.db.tree(root_id)
        ):
            await asyncio.sleep(0.01)


async def test_a_run_without_room_is_rejected(served: Served, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("APFLOW_MAX_REQUESTED", "1")
    reset_settings()
    with serving() as full:
        async with agent(full.url) as client:
            stream = client.send_message(tree(*WAITING))
            await anext(aiter(stream))
            (refused,) = await replies(client.send_message(tree(*PLAIN)))
            assert refused.task.status.state == TaskState.TASK_STATE_REJECTED
            assert "runs" in refused.task.status.message.parts[0].text
            Steps.go_on.set()
            assert last_state(await replies(stream)) == COMPLETED
    monkeypatch.undo()
    reset_settings()


def test_every_status_of_a_task_has_a_state_in_a2a():
    assert set(STATES) == set(TaskStatus)
    assert STATES[TaskStatus.SKIPPED] == TaskState.TASK_STATE_COMPLETED  # A2A has no state for it
