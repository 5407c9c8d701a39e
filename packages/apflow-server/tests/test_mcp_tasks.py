"""The extension for tasks (SEP-2663) over our store, by the official client."""

from __future__ import annotations

import asyncio
import gc
import re
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("mcp_types", reason="version 1 of the SDK has no extensions")

from mcp.shared.exceptions import MCPError
from mcp_clients import connected
from mcp_task_clients import Raw, TaskClient, TaskRequest, listening, task_client
from serving import SECRET, Served, bearer, serving, wait_for
from test_mcp import Waiter, waiter

from apflow.core.settings import Settings
from apflow.core.store.memory import MemoryStore
from apflow.server.mcp.run_tasks import KIND

assert waiter  # a fixture
pytestmark = pytest.mark.asyncio
WAITS = {"waits": True, "n": 3}
TREE = {"tasks": [{"id": "given", "name": "mcp_waiter", "inputs": WAITS}], "wait": True}


@pytest.fixture
def everything() -> Iterator[Served]:
    with serving(Settings(mcp_tools=("all",), rate_limit=1_000_000)) as found:
        yield found


async def started(client: TaskClient, waiter: type[Waiter]) -> str:
    """Call a tool that runs until it is released; return the ID of the task."""
    created = await client.call("run_mcp_waiter", WAITS)
    assert await asyncio.to_thread(waiter.has_started.wait, 20)
    return created["taskId"]


@pytest.mark.parametrize(("tool", "arguments"), [("run_mcp_waiter", WAITS), ("tasks_execute", TREE)])
async def test_a_task_ends_with_the_result_that_the_call_would_have_had(
    everything: Served, waiter: type[Waiter], tool: str, arguments: dict[str, Any]
):
    async with task_client(everything.url) as client:
        created = await client.call(tool, arguments)
        assert created["resultType"] == "task"
        assert created["status"] == "working"
        assert created["ttlMs"] == 604_800_000
        assert await asyncio.to_thread(waiter.has_started.wait, 20)
        working = await client.get(created["taskId"])
        assert (working["resultType"], working["status"]) == ("complete", "working")
        assert "result" not in working
        waiter.released.set()
        ended = await client.until(created["taskId"])
    async with connected(everything.url, era="modern") as plain:
        called = await plain.call(tool, arguments | {"waits": False} if "waits" in arguments else arguments)
    assert ended["status"] == "completed"
    assert ended["result"]["isError"] is False
    kept, direct = ended["result"]["structuredContent"], called["structuredContent"]
    assert kept["result"] == direct["result"] == {"n": 3, "big": 2**53 + 1, "none": None}
    assert set(kept) == set(direct)
    if tool == "tasks_execute":
        assert kept["ids"]["given"] == kept["task_id"]


async def test_a_failed_run_is_a_completed_task_with_an_error_as_the_result(
    everything: Served, waiter: type[Waiter]
):
    async with task_client(everything.url) as client:
        created = await client.call("run_mcp_waiter", {"fails": True})
        if "taskId" in created:
            created = (await client.until(created["taskId"]))["result"]
    assert created["isError"] is True
    assert "as asked" in created["content"][0]["text"]


async def test_cancelling_a_task_stops_the_executors(everything: Served, waiter: type[Waiter]):
    async with task_client(everything.url) as client:
        task_id = await started(client, waiter)
        acknowledged = await client.request("tasks/cancel", task_id)
        assert set(acknowledged) <= {"resultType", "_meta"}
        assert await asyncio.to_thread(waiter.was_cancelled.wait, 20)
        ended = await client.until(task_id)
        assert ended["status"] == "cancelled"
        assert "result" not in ended
        assert "MCP client" in ended["statusMessage"]
        await client.request("tasks/cancel", task_id)  # of one that has ended: acknowledged, too


async def test_a_task_keeps_its_end_when_the_tree_runs_again(everything: Served, waiter: type[Waiter]):
    async with task_client(everything.url) as client:
        task_id = await started(client, waiter)
        waiter.released.set()
        first = await client.until(task_id)
        waiter.released.clear()
        waiter.has_started.clear()
        root_id = first["result"]["structuredContent"]["task_id"]
        again = await client.call("tasks_execute", {"task_id": root_id, "force": True, "wait": True})
        assert await asyncio.to_thread(waiter.has_started.wait, 20)
        assert (await client.get(again["taskId"]))["status"] == "working"
        kept = await client.get(task_id)
        assert (kept["status"], kept["result"]) == ("completed", first["result"])
        await client.request("tasks/cancel", task_id)  # cancels no later run
        assert (await client.get(again["taskId"]))["status"] == "working"
        await client.request("tasks/cancel", again["taskId"])
        assert (await client.until(again["taskId"]))["status"] == "cancelled"
        assert (await client.get(task_id))["result"] == first["result"]


async def test_another_server_on_the_same_database_answers_for_a_task(waiter: type[Waiter]):
    db, settings = MemoryStore(), Settings(mcp_tools=("all",))
    with serving(settings, db=db) as one, serving(settings, db=db) as other:
        async with task_client(one.url) as client, task_client(other.url) as another:
            task_id = await started(client, waiter)
            assert (await another.get(task_id))["status"] == "working"
            waiter.released.set()
            assert await another.until(task_id) == await client.until(task_id)


async def refused(answering: Any) -> tuple[int, str]:
    with pytest.raises(MCPError) as caught:
        await answering
    return caught.value.error.code, caught.value.error.message


async def test_a_task_is_there_for_its_owner_only(waiter: type[Waiter]):
    with serving(Settings(mcp_tools=("all",), jwt_secret=SECRET)) as found:
        async with task_client(found.url, bearer("ann")) as ann, task_client(found.url, bearer("bob")) as bob:
            task_id = await started(ann, waiter)
            missing = task_id[:-1] + ("0" if task_id[-1] != "0" else "1")
            for method, more in (
                ("tasks/get", {}),
                ("tasks/update", {"inputResponses": {}}),
                ("tasks/cancel", {}),
            ):
                foreign = await refused(bob.request(method, task_id, **more))
                absent = await refused(bob.request(method, missing, **more))
                assert foreign == (absent[0], absent[1].replace(missing, task_id))
                assert foreign[0] == -32602
            assert not waiter.was_cancelled.is_set()
            waiter.released.set()
            assert (await ann.until(task_id))["status"] == "completed"


async def test_responses_that_a_run_does_not_ask_for_are_ignored(everything: Served, waiter: type[Waiter]):
    async with task_client(everything.url) as client:
        task_id = await started(client, waiter)
        found = await client.request("tasks/update", task_id, inputResponses={"name": {"action": "accept"}})
        assert set(found) <= {"resultType", "_meta"}
        assert (await client.get(task_id))["status"] == "working"
        waiter.released.set()


async def test_a_client_without_the_extension_gets_results(everything: Served, waiter: type[Waiter]):
    waiter.released.set()
    async with task_client(everything.url, declares=False) as client:
        assert "taskId" not in await client.call("run_mcp_waiter", WAITS)
        code, _ = await refused(client.get("0" * 48))
        assert code == -32021
    async with connected(everything.url, era="legacy") as legacy:
        assert "taskId" not in await legacy.call("run_mcp_waiter", WAITS)
        given: Any = TaskRequest(method="tasks/get", params={"taskId": "0" * 48})
        assert (await refused(legacy.session.send_request(given, Raw)))[0] == -32601


async def test_calls_that_return_at_once_and_those_with_a_webhook_are_no_tasks(
    everything: Served, waiter: type[Waiter]
):
    waiter.released.set()
    async with task_client(everything.url) as client:
        tree = {"tasks": [{"name": "mcp_waiter"}]}
        assert "taskId" not in await client.call("tasks_execute", tree)
        hook = {"url": "http://127.0.0.1:9/never"}
        found = await client.call("tasks_execute", tree | {"wait": True, "webhook_config": hook})
        assert found["structuredContent"]["webhook_secret"]


async def test_a_task_is_not_kept_longer_than_the_setting_says(waiter: type[Waiter]):
    with serving(Settings(mcp_tools=("all",), mcp_task_seconds=0.001)) as found:
        async with task_client(found.url) as client:
            first = await started(client, waiter)
            assert (await refused(client.get(first)))[0] == -32602
            waiter.has_started.clear()
            second = await started(client, waiter)
            # The record of the first was removed with the second call; and perhaps also that of the second.
            kept = [each.key for each in await found.db.records(KIND)]
            assert first not in kept
            assert set(kept) <= {second}
            waiter.released.set()


SUBSCRIPTION = {"io.modelcontextprotocol/subscriptionId": "listen-1"}


def agreed(message: dict[str, Any]) -> dict[str, Any]:
    """Return what the server has agreed to notify of."""
    assert message["method"] == "notifications/subscriptions/acknowledged"
    assert message["params"]["_meta"] == SUBSCRIPTION
    return message["params"]["notifications"]


def state_in(message: dict[str, Any]) -> dict[str, Any]:
    """Return the state that a notification contains, without what depends on the moment."""
    assert message["method"] == "notifications/tasks"
    assert message["params"].pop("_meta") == SUBSCRIPTION
    return lasting(message["params"])


def lasting(state: dict[str, Any]) -> dict[str, Any]:
    return {
        name: each for name, each in state.items() if name not in ("pollIntervalMs", "resultType", "_meta")
    }


def following() -> list[str]:
    """Return the names of the asyncio tasks that watch for clients."""
    found = (each for each in gc.get_objects() if type(each) is asyncio.Task and not each.done())
    return [name for each in found if (name := each.get_name()) in ("apflow:mcp:task", "apflow:mcp:changes")]


async def test_a_client_that_listens_is_notified_of_the_states_of_a_task(
    everything: Served, waiter: type[Waiter]
):
    async with task_client(everything.url) as client:
        task_id = await started(client, waiter)
        async with listening(everything.url, [task_id, "0" * 48]) as messages:
            assert agreed(await anext(messages)) == {"taskIds": [task_id]}
            assert state_in(await anext(messages)) == lasting(await client.get(task_id))
            waiter.released.set()
            async for message in messages:
                ended = state_in(message)
                if ended["status"] != "working":
                    break
        assert ended["status"] == "completed"
        assert ended == lasting(await client.get(task_id))
        async with listening(everything.url, [task_id]) as messages:  # of one that has ended: at once
            agreed(await anext(messages))
            assert state_in(await anext(messages)) == ended
    await asyncio.to_thread(wait_for, lambda: not following())


async def test_a_client_is_notified_of_the_progress_of_a_task(everything: Served, waiter: type[Waiter]):
    tasks = [
        {"id": "root", "name": "mcp_waiter", "inputs": WAITS, "dependencies": [{"id": "first"}]},
        {"id": "first", "parent_id": "root", "name": "mcp_waiter"},
    ]
    async with task_client(everything.url) as client:
        created = await client.call("tasks_execute", {"tasks": tasks, "wait": True})
        async with listening(everything.url, [created["taskId"]]) as messages:
            agreed(await anext(messages))
            async for message in messages:
                if re.search("(50|75)%", state_in(message)["statusMessage"]):  # of two tasks, one is done
                    break
            await client.request("tasks/cancel", created["taskId"])
            async for message in messages:
                if state_in(message)["status"] == "cancelled":
                    break


async def test_only_the_owner_of_a_task_is_notified(waiter: type[Waiter]):
    with serving(Settings(mcp_tools=("all",), jwt_secret=SECRET)) as found:
        async with task_client(found.url, bearer("ann")) as ann:
            task_id = await started(ann, waiter)
            async with listening(found.url, [task_id], bearer("bob")) as messages:
                assert agreed(await anext(messages)) == {}
                waiter.released.set()
                await ann.until(task_id)
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.3):
                        await anext(messages)


async def test_tasks_are_for_clients_that_declare_the_extension(everything: Served):
    async with listening(everything.url, ["0" * 48], declares=False) as messages:
        assert (await anext(messages))["error"]["code"] == -32021
