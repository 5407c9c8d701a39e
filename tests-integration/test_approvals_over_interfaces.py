"""An approval that waits over a kill is decided over each interface, and only by those who may decide."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from a2a_clients import agent, calling, tree
from mcp_clients import IS_SECOND, connected, plain, types
from peers.apflowserver import ApflowServer, apflow_server, wait_for
from peers.deciding import INTERFACES, RefusedError, call, token
from serving import SECRET, bearer

from apflow.client import SyncClient

ENVIRONMENT = {
    "APFLOW_JWT_SECRET": SECRET,
    "APFLOW_LEASE_SECONDS": "1",
    "APFLOW_MCP_TOOLS": "all",
    "APFLOW_RATE_LIMIT": "1000000",
}
# Else imported with the first request, which the client of MCP gives ten seconds.
MODULES = ("apflow.server.mcp.sdk", "apflow.server.mcp.handlers")
FORM = {"properties": {"window": {"type": "string", "enum": ["day", "night"]}}, "required": ["window"]}
NIGHT = {"window": "night"}


def asking(task_id: str, **inputs: Any) -> dict[str, Any]:
    return {
        "id": task_id,
        "name": "approval_executor",
        "inputs": {"question": "May it?", "form": FORM} | inputs,
    }


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApflowServer]:
    with apflow_server(tmp_path, is_durable=True, modules=MODULES, environment=ENVIRONMENT) as found:
        yield found


@pytest.fixture(scope="module")
def restarted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApflowServer]:
    """A server that was killed while two approvals for each interface waited."""
    folder = tmp_path_factory.mktemp("restarted")
    with apflow_server(folder, is_durable=True, modules=MODULES, environment=ENVIRONMENT) as found:
        for interface in INTERFACES:
            asyncio.run(start(found, interface, asking(f"own-{interface}")))
            others = asking(f"others-{interface}", approvers={"users": ["boss"]})
            asyncio.run(start(found, interface, others))
        wait_for(lambda: len(listed(found)) == 2 * len(INTERFACES))
        kill_and_start(found)
        yield found


def kill_and_start(server: ApflowServer) -> None:
    """End the process, and wait until another one runs the trees that wait."""
    before = waiting(server)
    server.kill()
    server.start()
    assert waiting(server) == before != set()
    wait_for(lambda: all(task_of(server, each)["status"] == "in_progress" for each in before))


def listed(server: ApflowServer, status: str = "open") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = call(server, "ann", "approvals.list", status=status)["result"]
    return found


def waiting(server: ApflowServer) -> set[str]:
    return {each["task_id"] for each in listed(server)}


def task_of(server: ApflowServer, task_id: str) -> dict[str, Any]:
    found: dict[str, Any] = call(server, "ann", "tasks.get", task_id=task_id)["result"]
    return found


def check_completed(server: ApflowServer, task_id: str) -> None:
    """Check that the result of a task is Ann's decision, and that the task was asked and decided once."""
    wait_for(lambda: task_of(server, task_id)["status"] == "completed", 60)
    result = task_of(server, task_id)["result"]
    assert (result["by"], result["answers"]) == ("ann", NIGHT)
    with SyncClient(server.url, token=token("ann")) as client:
        kinds = [each.type for each in client.watch(task_id, after=0)]
    assert (kinds.count("approval_requested"), kinds.count("approval_decided")) == (1, 1)


async def start(server: ApflowServer, interface: str, task: dict[str, Any]) -> None:
    if interface != "a2a-message":
        assert "result" in call(server, "ann", "tasks.execute", tasks=[task])
        return
    context = calling(bearer("ann"))
    async with agent(server.url, headers=bearer("ann")) as client:
        async for _ in client.send_message(tree(task, context_id="talk"), context=context):
            break


@pytest.mark.parametrize("interface", INTERFACES)
async def test_an_approval_that_waits_over_a_kill_is_decided_by_those_who_may(
    restarted: ApflowServer, interface: str
):
    own, others, decide = f"own-{interface}", f"others-{interface}", INTERFACES[interface]
    with pytest.raises(RefusedError, match="Only user 'boss' or an admin may decide"):
        await decide(restarted, "ann", others, NIGHT)
    with pytest.raises(RefusedError, match=r"There is no task|does not exist"):
        await decide(restarted, "eve", own, NIGHT)
    with pytest.raises(RefusedError, match="window"):
        await decide(restarted, "ann", own, {"window": "noon"})
    assert {own, others} <= waiting(restarted)
    await decide(restarted, "ann", own, NIGHT)
    check_completed(restarted, own)
    assert others in waiting(restarted)


class User:
    """A user of an MCP client, who hesitates, or approves what is asked."""

    def __init__(self, *, hesitates: bool) -> None:
        self._hesitates, self.is_asked = hesitates, asyncio.Event()

    async def __call__(self, context: object, params: object) -> Any:
        self.is_asked.set()
        if self._hesitates:
            await asyncio.Event().wait()
        return types.ElicitResult(action="accept", content=NIGHT)


async def test_a_call_that_is_repeated_after_a_kill_asks_again(server: ApflowServer):
    first, eve, second = User(hesitates=True), User(hesitates=False), User(hesitates=False)
    arguments = {"tasks": [asking("own")], "wait": True, "idempotency_key": "one"}
    async with connected(server.url, bearer("ann"), elicit=first) as client:
        calling_before = asyncio.create_task(client.call("tasks_execute", arguments))
        async with asyncio.timeout(60):
            await first.is_asked.wait()
        await asyncio.to_thread(kill_and_start, server)
        calling_before.cancel()
        await asyncio.wait({calling_before})
    [task_id] = waiting(server)
    async with connected(server.url, bearer("eve"), elicit=eve) as client:
        refused = await client.call("tasks_execute", {"task_id": task_id, "wait": True})
        assert "There is no task" in str(refused["content"])
    assert waiting(server) == {task_id}
    async with connected(server.url, bearer("ann"), elicit=second) as client:
        done = await client.call("tasks_execute", arguments)
    assert done["structuredContent"]["result"]["answers"] == NIGHT
    assert (second.is_asked.is_set(), eve.is_asked.is_set()) == (True, False)
    check_completed(server, task_id)


@pytest.mark.skipif(not IS_SECOND, reason="version 1 of the SDK has no results that ask for input")
async def test_a_result_that_asks_is_answered_after_a_kill(server: ApflowServer):
    call_of = ("tasks_execute", {"tasks": [asking("own")], "wait": True})
    unused = User(hesitates=True)  # its client can ask; the test answers by itself
    async with connected(server.url, bearer("ann"), era="modern", elicit=unused) as client:
        asked = plain(await client.session.call_tool(*call_of, allow_input_required=True))
    await asyncio.to_thread(kill_and_start, server)
    again = {
        "request_state": asked["requestState"],
        "input_responses": {
            each: types.ElicitResult(action="accept", content=NIGHT) for each in asked["inputRequests"]
        },
        "allow_input_required": True,
    }
    async with connected(server.url, bearer("eve"), era="modern", elicit=unused) as client:
        refused = plain(await client.session.call_tool(*call_of, **again))
    assert "There is no task" in str(refused["content"])
    assert waiting(server) == {"own"}
    async with connected(server.url, bearer("ann"), era="modern", elicit=unused) as client:
        done = plain(await client.session.call_tool(*call_of, **again))
    assert done["structuredContent"]["result"]["answers"] == NIGHT
    check_completed(server, "own")


@pytest.mark.skipif(not IS_SECOND, reason="version 1 of the SDK has no extensions")
async def test_a_task_of_the_protocol_that_asks_is_answered_after_a_kill(server: ApflowServer):
    from mcp_task_clients import task_client

    unused = User(hesitates=True)
    async with task_client(server.url, bearer("ann"), elicit=unused) as client, asyncio.timeout(60):
        created = await client.call("tasks_execute", {"tasks": [asking("own")], "wait": True})
        await client.until(created["taskId"], "input_required")
    await asyncio.to_thread(kill_and_start, server)
    async with task_client(server.url, bearer("ann"), elicit=unused) as client, asyncio.timeout(60):
        state = await client.until(created["taskId"], "input_required")
        responses = {each: {"action": "accept", "content": NIGHT} for each in state["inputRequests"]}
        async with task_client(server.url, bearer("eve")) as other:
            with pytest.raises(Exception, match="Task not found"):
                await other.request("tasks/update", created["taskId"], inputResponses=responses)
        assert waiting(server) == {"own"}
        await client.request("tasks/update", created["taskId"], inputResponses=responses)
        ended = await client.until(created["taskId"])
    assert ended["result"]["structuredContent"]["result"]["answers"] == NIGHT
    check_completed(server, "own")
