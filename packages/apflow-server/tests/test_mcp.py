"""MCP over HTTP: tools, resources and prompts, by the official client."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import pytest
from mcp_clients import ERAS, McpClient, Progress, connected
from serving import Served, serving

from apflow.core import BaseTask, executor_register, get_registry
from apflow.core.settings import Settings
from apflow.server.mcp.profiles import DEFAULT
from apflow.server.mcp.tools import operation_tools

pytestmark = pytest.mark.asyncio


class Waiter(BaseTask):
    """Reports progress until it is released, or cancelled."""

    id = "mcp_waiter"
    name = "Waiter"
    description = "Waits as long as the test wants."
    cancelable = True
    released = threading.Event()
    has_started = threading.Event()
    was_cancelled = threading.Event()

    def get_input_schema(self) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": {"waits": {"type": "boolean"}, "n": {"type": ["integer", "null"]}},
        }

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        if inputs.get("fails"):
            raise ValueError("as asked")
        Waiter.has_started.set()
        try:
            while inputs.get("waits") and not Waiter.released.is_set():
                await self.report_progress(0.5, "halfway")
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            Waiter.was_cancelled.set()
            raise
        return {"n": inputs.get("n"), "big": 2**53 + 1, "none": None}


@pytest.fixture
def waiter() -> Iterator[type[Waiter]]:
    for each in (Waiter.released, Waiter.has_started, Waiter.was_cancelled):
        each.clear()
    executor_register(Waiter, override=True)
    yield Waiter
    Waiter.released.set()
    get_registry().unregister(Waiter.id)


@pytest.fixture(params=ERAS)
def era(request: pytest.FixtureRequest) -> str:
    return request.param


def text_of(result: dict[str, Any]) -> str:
    return result["content"][0]["text"]


async def test_the_default_is_a_few_tools(served: Served, era: str):
    async with connected(served.url, era=era) as client:
        assert list(await client.tools()) == [name for name in operation_tools() if name in DEFAULT]


@pytest.fixture
def everything() -> Iterator[Served]:
    with serving(Settings(mcp_tools=("all",), rate_limit=1_000_000)) as found:
        yield found


async def test_every_tool_has_valid_schemas(everything: Served, waiter: type[Waiter]):
    async with connected(everything.url) as client:
        tools = await client.tools()
    assert set(operation_tools()) <= set(tools)
    assert tools["run_mcp_waiter"]["inputSchema"]["properties"]["n"] == {"type": ["integer", "null"]}
    for tool in tools.values():
        for schema in (tool["inputSchema"], tool["outputSchema"]):
            jsonschema.Draft202012Validator.check_schema(schema)
            assert schema["type"] == "object"
    assert tools["tasks_get"]["annotations"]["readOnlyHint"] is True
    assert tools["tasks_delete"]["annotations"]["destructiveHint"] is True
    assert "use_streaming" not in tools["tasks_execute"]["inputSchema"]["properties"]


async def test_a_task_is_created_run_and_read(everything: Served, waiter: type[Waiter], era: str):
    async with connected(everything.url, era=era) as client:
        await client.tools()  # so that the client validates results
        task = {"name": "mcp_waiter", "inputs": {"n": 7}}
        done = await client.call("tasks_execute", {"tasks": [task], "wait": True})
        assert done["structuredContent"]["result"] == {"n": 7, "big": 2**53 + 1, "none": None}
        assert done["structuredContent"]["protocol"] == "mcp"
        assert json.loads(text_of(done)) == done["structuredContent"]
        task_id = done["structuredContent"]["task_id"]
        got = await client.call("tasks_get", {"task_id": task_id})
        assert got["structuredContent"]["status"] == "completed"
        listed = await client.call("tasks_list")
        assert [each["id"] for each in listed["structuredContent"]["result"]] == [task_id]


async def test_a_call_that_does_not_wait_returns_at_once(everything: Served, waiter: type[Waiter]):
    async with connected(everything.url) as client:
        task = {"name": "mcp_waiter", "inputs": {"waits": True}}
        done = await client.call("tasks_execute", {"tasks": [task]})
        assert done["structuredContent"]["status"] in ("pending", "in_progress")
        waiter.released.set()


async def test_an_executor_is_a_tool(everything: Served, waiter: type[Waiter], era: str):
    async with connected(everything.url, era=era) as client:
        await client.tools()
        done = await client.call("run_mcp_waiter", {"n": None})
        assert done["structuredContent"]["status"] == "completed"
        assert done["structuredContent"]["result"] == {"n": None, "big": 2**53 + 1, "none": None}
        failed = await client.call("run_mcp_waiter", {"fails": True})
        assert failed["isError"]
        assert "as asked" in text_of(failed)


async def test_progress_reaches_the_client_and_only_grows(everything: Served, waiter: type[Waiter], era: str):
    progress: Progress = []
    async with connected(everything.url, era=era) as client:
        call = asyncio.create_task(client.call("run_mcp_waiter", {"waits": True}, progress))
        while not any("halfway" in (message or "") for _, _, message in progress):
            await asyncio.sleep(0.01)
        waiter.released.set()
        await call
    done = [each for each, _, _ in progress]
    assert done == sorted(set(done))
    assert progress[-1][:2] == (pytest.approx(1.0, abs=1e-3), 1.0)


async def test_cancelling_a_call_stops_the_executors(everything: Served, waiter: type[Waiter], era: str):
    async with connected(everything.url, era=era) as client:
        task_id = await cancelled_call(client, waiter)
        assert await asyncio.to_thread(waiter.was_cancelled.wait, 20)
        while (found := await client.call("tasks_get", {"task_id": task_id}))["structuredContent"][
            "status"
        ] == "in_progress":
            await asyncio.sleep(0.05)
        assert found["structuredContent"]["status"] == "cancelled"
        assert "MCP client" in found["structuredContent"]["error"]


async def cancelled_call(client: McpClient, waiter: type[Waiter]) -> str:
    request_id = client.next_id()
    tree = [{"name": "mcp_waiter", "inputs": {"waits": True}}]
    call = asyncio.create_task(client.call("tasks_execute", {"tasks": tree, "wait": True}, []))
    assert await asyncio.to_thread(waiter.has_started.wait, 20)
    await client.cancel_call(call, request_id)
    [found] = (await client.call("tasks_list"))["structuredContent"]["result"]
    return found["id"]


async def test_an_error_is_a_result_that_a_model_can_read(everything: Served, era: str):
    async with connected(everything.url, era=era) as client:
        missing = await client.call("tasks_get", {"task_id": "nothing"})
        assert missing["isError"]
        assert "nothing" in text_of(missing)
        invalid = await client.call("tasks_get", {"task": "x", "history": 3})
        assert invalid["isError"]
        assert "task_id" in text_of(invalid)
        assert "history" in text_of(invalid)
        with pytest.raises(Exception, match="Unknown tool"):
            await client.call("nothing_at_all")
        with pytest.raises(Exception, match="Unknown tool"):
            await client.call("run_nothing_at_all")


async def test_a_tool_outside_of_the_selection_cannot_be_called(served: Served):
    async with connected(served.url) as client:
        with pytest.raises(Exception, match="Unknown tool"):
            await client.call("tasks_delete", {"task_id": "x"})


async def test_tasks_and_executors_are_resources(everything: Served, waiter: type[Waiter], era: str):
    async with connected(everything.url, era=era) as client:
        tree = [
            {"id": "root of/it", "name": "group"},
            {"id": "c", "name": "child", "parent_id": "root of/it"},
        ]
        created = await client.call("tasks_create", {"tasks": tree})
        root_id = created["structuredContent"]["id"]
        [resource] = [each for each in await client.resources() if each["name"] == "group"]
        [contents] = await client.read(resource["uri"])
        assert json.loads(contents["text"])["id"] == root_id
        [contents] = await client.read(f"{resource['uri']}/tree")
        assert [each["name"] for each in json.loads(contents["text"])["children"]] == ["child"]
        [contents] = await client.read("executors://mcp_waiter")
        assert json.loads(contents["text"])["id"] == "mcp_waiter"
        for uri in ("tasks://nothing", "executors://nothing", "other://thing"):
            with pytest.raises(Exception, match="Resource not found"):
                await client.read(uri)
        assert len(await client.templates()) == 3


async def test_resources_come_in_pages(everything: Served):
    async with httpx.AsyncClient(base_url=everything.url) as http:
        for at in range(205):
            await http.post("/call/tasks.create", json={"tasks": {"name": f"n{at}"}})
    async with connected(everything.url) as client:
        names = [each["name"] for each in await client.resources()]
    assert sorted(names) == sorted(f"n{at}" for at in range(205))


async def test_prompts_tell_how_to_build_and_explain(everything: Served, waiter: type[Waiter], era: str):
    async with connected(everything.url, era=era) as client:
        assert [each["name"] for each in await client.prompts()] == ["build_tree", "explain_run"]
        built = await client.prompt("build_tree", {"requirement": "Count words."})
        assert "Count words." in built["messages"][0]["content"]["text"]
        assert "mcp_waiter: Waits as long" in built["messages"][0]["content"]["text"]
        created = await client.call("tasks_create", {"tasks": {"name": "mcp_waiter"}})
        task_id = created["structuredContent"]["id"]
        explained = await client.prompt("explain_run", {"task_id": task_id})
        assert task_id in explained["messages"][0]["content"]["text"]
        for name, arguments in (("build_tree", {}), ("explain_run", {"task_id": "nothing"}), ("other", {})):
            with pytest.raises(Exception, match=r"required|nothing|Unknown prompt"):
                await client.prompt(name, arguments)


async def test_the_selection_has_patterns_and_executors(waiter: type[Waiter]):
    with serving(Settings(mcp_tools=("tasks_g*", "run_mcp_waiter"))) as found:
        async with connected(found.url) as client:
            assert list(await client.tools()) == ["tasks_get", "tasks_generate", "run_mcp_waiter"]


async def test_a_run_that_a_client_waits_for_stays_requested_when_the_server_ends(waiter: type[Waiter]):
    with serving(Settings(mcp_tools=("all",))) as found:
        async with connected(found.url) as client:
            task = {"name": "mcp_waiter", "inputs": {"waits": True}}
            call = asyncio.create_task(client.call("tasks_execute", {"tasks": [task], "wait": True}))
            assert await asyncio.to_thread(waiter.has_started.wait, 20)
            found.app.state.drain.end()
            done = await call
            assert done["isError"]
            assert "stays requested" in text_of(done)
            assert not waiter.was_cancelled.is_set()
            waiter.released.set()


async def test_without_sessions_each_request_stands_alone(waiter: type[Waiter]):
    with serving(Settings(mcp_sessions=False, mcp_tools=("all",))) as found:
        async with connected(found.url) as client:
            progress: Progress = []
            call = asyncio.create_task(client.call("run_mcp_waiter", {"waits": True}, progress))
            while not progress:
                await asyncio.sleep(0.01)
            waiter.released.set()
            assert (await call)["structuredContent"]["status"] == "completed"


async def test_a_client_is_notified_of_changes_to_a_task(everything: Served, waiter: type[Waiter], era: str):
    updated: list[str] = []
    async with connected(everything.url, era=era, updated=updated) as client:
        created = await client.call("tasks_create", {"tasks": {"name": "mcp_waiter"}})
        uri = f"tasks://{created['structuredContent']['id']}"
        async with client.subscribed(uri):
            await client.call("tasks_execute", {"task_id": created["structuredContent"]["id"]})
            while uri not in updated:
                await asyncio.sleep(0.01)


async def test_a_resource_that_is_not_there_cannot_be_subscribed_to(everything: Served):
    async with connected(everything.url) as client:
        with pytest.raises(Exception, match="Resource not found"):
            async with client.subscribed("tasks://nothing"):
                pass


async def test_ids_are_completed(everything: Served, waiter: type[Waiter], era: str):
    async with connected(everything.url, era=era) as client:
        created = await client.call("tasks_create", {"tasks": {"name": "mcp_waiter"}})
        task_id = created["structuredContent"]["id"]
        assert await client.complete("explain_run", "task_id", task_id[:5]) == [task_id]
        assert await client.complete("explain_run", "task_id", "nothing") == []
        assert await client.complete("explain_run", "executor_id", "mcp_w") == ["mcp_waiter"]
