"""MCP over HTTP: the official client and raw requests, through the application."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import pytest
from mcp_clients import ERAS, McpClient, Progress, connected
from serving import SECRET, Served, bearer, serving, wait_for

from apflow.core import BaseTask, executor_register, get_registry
from apflow.core.errors import SettingsError
from apflow.core.settings import Settings
from apflow.server.app import create_app
from apflow.server.mcp.profiles import DEFAULT
from apflow.server.mcp.tools import operation_tools

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
ACCEPT = {"Accept": "application/json, text/event-stream"}
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


async def test_progress_reaches_the_client_and_only_grows(
    everything: Served, waiter: type[Waiter], era: str
):
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
        tree = [{"id": "root of/it", "name": "group"}, {"id": "c", "name": "child", "parent_id": "root of/it"}]
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
            with pytest.raises(Exception, match="required|nothing|Unknown prompt"):
                await client.prompt(name, arguments)


@pytest.mark.parametrize("tools", [("tasks_gt",), ("defaults",)])
async def test_tools_that_do_not_exist_are_refused_at_the_start(tools: tuple[str, ...]):
    with pytest.raises(SettingsError, match=r"APFLOW_MCP_TOOLS.*Did you mean"):
        create_app(Settings(mcp_tools=tools))


async def test_the_selection_has_patterns_and_executors(waiter: type[Waiter]):
    with serving(Settings(mcp_tools=("tasks_g*", "run_mcp_waiter"))) as found:
        async with connected(found.url) as client:
            assert list(await client.tools()) == ["tasks_get", "tasks_generate", "run_mcp_waiter"]


@pytest.mark.parametrize("path", ["/mcp", "/mcp/"])
async def test_the_endpoint_answers_without_a_redirect(served: Served, path: str):
    answer = httpx.post(f"{served.url}{path}", json=INITIALIZE, headers=ACCEPT)
    assert (answer.status_code, answer.history) == (200, [])
    assert "serverInfo" in answer.text


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Host": "evil.example:80"}]
)
async def test_a_foreign_name_or_page_is_refused(served: Served, headers: dict[str, str]):
    answer = httpx.post(f"{served.url}/mcp", json=INITIALIZE, headers=ACCEPT | headers)
    assert answer.status_code == 403
    assert "serverInfo" not in answer.text


async def test_names_and_pages_are_checked_with_tokens_too():
    settings = Settings(jwt_secret=SECRET, public_url="https://flow.example")
    with serving(settings) as found:
        for headers, status in (
            ({}, 200),
            ({"Host": "flow.example"}, 200),
            ({"Host": "flow.example", "Origin": "https://flow.example"}, 200),
            ({"Host": "evil.example"}, 403),
            ({"Host": "evil.example", "Origin": "http://evil.example"}, 403),
            ({"Origin": "http://evil.example"}, 403),
        ):
            given = ACCEPT | bearer() | headers
            assert httpx.post(f"{found.url}/mcp", json=INITIALIZE, headers=given).status_code == status


async def test_a_caller_without_a_token_learns_where_the_issuer_is():
    settings = Settings(
        jwt_secret=SECRET, public_url="https://flow.example/x", jwt_issuer="https://issuer.example"
    )
    with serving(settings) as found:
        refused = httpx.post(f"{found.url}/mcp", json=INITIALIZE, headers=ACCEPT)
        assert refused.status_code == 401
        where = "https://flow.example/x/.well-known/oauth-protected-resource/mcp"
        assert f'resource_metadata="{where}"' in refused.headers["www-authenticate"]
        for path in ("/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-protected-resource"):
            metadata = httpx.get(f"{found.url}{path}").json()
            assert metadata["resource"] == "https://flow.example/x/mcp"
            assert metadata["authorization_servers"] == ["https://issuer.example"]


async def test_without_tokens_there_is_no_metadata(http: httpx.Client):
    assert http.get("/.well-known/oauth-protected-resource").status_code == 404


async def test_a_session_is_for_the_user_that_has_opened_it(guarded: Served):
    opened = httpx.post(f"{guarded.url}/mcp", json=INITIALIZE, headers=ACCEPT | bearer("ann"))
    session = {"Mcp-Session-Id": opened.headers["mcp-session-id"]}
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    statuses = [
        httpx.post(f"{guarded.url}/mcp", json=request, headers=ACCEPT | session | given).status_code
        for given in (bearer("ann"), bearer("ben"), {})
    ]
    assert statuses == [200, 404, 401]


async def test_the_server_ends_while_a_client_listens(waiter: type[Waiter]):
    with serving() as found:
        client = httpx.Client(base_url=found.url, timeout=20)
        opened = client.post("/mcp", json=INITIALIZE, headers=ACCEPT)
        session = {"Mcp-Session-Id": opened.headers["mcp-session-id"]}
        with client.stream("GET", "/mcp", headers=ACCEPT | session) as stream:
            assert stream.status_code == 200
            wait_for(lambda: found.app.state.streams.open["mcp"] == 1)
            found.app.state.drain.end()
            with pytest.raises(httpx.TransportError):  # the stream is cut off, not ended
                stream.read()
        client.close()
        wait_for(lambda: found.app.state.streams.open["mcp"] == 0)


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


async def test_sessions_leave_nothing_behind(served: Served):
    async with httpx.AsyncClient(base_url=served.url, timeout=20) as client:

        async def open_and_close() -> None:
            opened = await client.post("/mcp", json=INITIALIZE, headers=ACCEPT)
            session = {"Mcp-Session-Id": opened.headers["mcp-session-id"]}
            call = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
            assert (await client.post("/mcp", json=call, headers=ACCEPT | session)).status_code == 200
            assert (await client.delete("/mcp", headers=ACCEPT | session)).status_code == 200

        for _ in range(20):
            await open_and_close()
        before = descriptors(), threading.active_count(), tasks()
        for _ in range(200):
            await open_and_close()
        after = descriptors(), threading.active_count(), tasks()
    assert all(now <= then + 2 for now, then in zip(after, before, strict=True)), (before, after)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def tasks() -> int:
    """Return how many asyncio tasks there are, those of the server included."""
    return sum(isinstance(each, asyncio.Task) and not each.done() for each in gc.get_objects())


async def test_without_sessions_each_request_stands_alone(waiter: type[Waiter]):
    with serving(Settings(mcp_sessions=False, mcp_tools=("all",))) as found:
        opened = httpx.post(f"{found.url}/mcp", json=INITIALIZE, headers=ACCEPT)
        assert "mcp-session-id" not in opened.headers
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


async def test_a_server_without_the_sdk_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "mcp", None)
    monkeypatch.delitem(sys.modules, "apflow.server.mcp.sdk", raising=False)
    with serving() as found:
        answer = httpx.post(f"{found.url}/mcp", json=INITIALIZE, headers=ACCEPT)
        assert answer.status_code == 501
        assert "apflow-server[mcp]" in answer.json()["error"]["message"]


async def test_the_sdk_is_imported_with_the_first_request_only():
    program = (
        "import sys; from apflow.server.app import create_app; from apflow.core import MemoryStore; "
        "create_app(db=MemoryStore()); sys.exit('mcp' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
