"""Who sees what over MCP: every tool, resource and prompt, for each kind of caller.

The rows of operations are those of `test_tenancy`: a tool must say to a stranger what it says of a missing
task, and so must a resource and a prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from mcp_clients import connected
from serving import SECRET, Served, bearer, serving
from test_tenancy import BY_ROW, CALLERS, MISSING, ROWS, VARIANTS, created_for
from trees import steps

from apflow.core.settings import Settings
from apflow.server.mcp.tools import operation_tools, tool_name

TOOLS = {tool.operation.name: name for name, tool in operation_tools().items()}
CELLS = [each for each in VARIANTS if each.values[0] in TOOLS and each.values[2] in ("owner", "other")]
pytestmark = pytest.mark.asyncio


@pytest.fixture(scope="module")
def guarded() -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("APFLOW_NET_ALLOW", "203.0.113.9")  # no host has this address
        settings = Settings(jwt_secret=SECRET, rate_limit=1_000_000, mcp_tools=("all",))
        with serving(settings) as found:
            yield found


@pytest.fixture
def task(guarded: Served, request: pytest.FixtureRequest) -> str:
    """A tree of Ann's, pending, with a child; for operations on schedules, also a schedule of its name."""
    with httpx.Client(base_url=guarded.url, timeout=10) as client:
        return created_for(client, request.node.name, "anns")


def named(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return arguments by the names that tools have for them, and without what tools do not take."""
    found = {"task_ids" if name == "context_ids" else name: value for name, value in arguments.items()}
    found.pop("use_streaming", None)
    return {"tasks": found} if set(found) == {"name", "user_id"} else found


@pytest.mark.parametrize(("operation", "variant", "caller"), CELLS)
async def test_a_tool(guarded: Served, task: str, operation: str, variant: Callable[[str], Any], caller: str):
    row, tool = ROWS[operation], tool_name(operation)
    async with connected(guarded.url, CALLERS[caller]) as client:
        found = await client.call(tool, named(variant(task)))
        if caller == "other" and row.about_tasks:
            missing = await client.call(tool, named(variant(MISSING)))
            assert found["isError"]
            assert str(found).replace(task, "ID") == str(missing).replace(MISSING, "ID")
        elif caller == "other" and (row.other is not None or row.is_for_admins):
            assert found["isError"]
        if caller == "other":
            assert "anns" not in str(found)
            if operation in BY_ROW:
                assert "not_found" in str(found)
        elif row.about_tasks:
            assert not found["isError"], found


async def test_every_tool_of_an_operation_has_a_row():
    assert set(TOOLS) <= set(ROWS)


@pytest.mark.parametrize("uri", ["tasks://{}", "tasks://{}/tree"])
async def test_a_resource(guarded: Served, task: str, uri: str):
    async with connected(guarded.url, CALLERS["owner"]) as client:
        [contents] = await client.read(uri.format(task))
        assert "anns" in contents["text"]
        assert task in str(await client.resources())
    async with connected(guarded.url, CALLERS["other"]) as client:
        assert task not in str(await client.resources())
        said = [await refusal(client.read(uri.format(each))) for each in (task, MISSING)]
        assert said[0].replace(task, "ID") == said[1].replace(MISSING, "ID")


async def test_a_prompt(guarded: Served, task: str):
    async with connected(guarded.url, CALLERS["owner"]) as client:
        assert "anns" in str(await client.prompt("explain_run", {"task_id": task}))
    async with connected(guarded.url, CALLERS["other"]) as client:
        said = [await refusal(client.prompt("explain_run", {"task_id": each})) for each in (task, MISSING)]
        assert said[0].replace(task, "ID") == said[1].replace(MISSING, "ID")


async def test_a_page_that_begins_after_a_foreign_task(guarded: Served, task: str):
    async with connected(guarded.url, CALLERS["other"]) as client:
        said = [await refusal(client.page("list_resources", each)) for each in (task, MISSING)]
        assert said[0].replace(task, "ID") == said[1].replace(MISSING, "ID")


async def refusal(answering: Any) -> str:
    with pytest.raises(Exception) as caught:  # the class depends on the version of the client
        await answering
    return str(caught.value)


@pytest.mark.parametrize("caller", ["anonymous", "expired"])
@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
async def test_a_request_without_a_valid_token(guarded: Served, caller: str, method: str):
    async with httpx.AsyncClient(base_url=guarded.url) as client:
        answer = await client.request(method, "/mcp", headers=CALLERS[caller])
    assert answer.status_code == 401


async def test_a_tool_that_runs_an_executor_makes_a_task_of_the_caller(guarded: Served):
    with steps():
        async with connected(guarded.url, bearer("cid")) as client:
            done = await client.call("run_server_steps", {"n": 3})
            task_id = done["structuredContent"]["task_id"]
            assert (await client.call("tasks_get", {"task_id": task_id}))["structuredContent"][
                "user_id"
            ] == "cid"
    async with connected(guarded.url, CALLERS["other"]) as client:
        assert (await client.call("tasks_get", {"task_id": task_id}))["isError"]
