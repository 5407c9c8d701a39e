"""MCP: a call that waits for a run asks the user of the client for the approvals of the run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from asking import FORM, asking, asks
from mcp_clients import ERAS, IS_SECOND, connected, plain, types
from serving import SECRET, Served, bearer, serving

from apflow.core.settings import Settings
from apflow.server.mcp.approvals import requested_schema

pytestmark = pytest.mark.asyncio
WAITING = {"tasks": [asking(form=FORM, data={"version": 2})], "wait": True}


@pytest.fixture
def served() -> Iterator[Served]:
    with asks(), serving(Settings(mcp_tools=("all",), rate_limit=1_000_000)) as found:
        yield found


class User:
    """Responds to what is asked, in order; the last response is repeated."""

    def __init__(self, *responses: dict[str, Any]) -> None:
        self.responses, self.asked = list(responses), list[dict[str, Any]]()

    async def __call__(self, context: object, params: Any) -> Any:
        self.asked.append(plain(params))
        given = self.responses.pop(0) if len(self.responses) > 1 else self.responses[0]
        return types.ElicitResult(**given)


async def test_a_client_is_asked_within_the_call_until_the_answers_are_valid(served: Served):
    user = User(
        {"action": "accept", "content": {"window": "noon"}},
        {"action": "accept", "content": {"window": "day"}},
    )
    async with connected(served.url, elicit=user) as client:
        done = (await client.call("tasks_execute", WAITING))["structuredContent"]
        assert (done["status"], done["result"]["answers"]) == ("completed", {"window": "day"})
    first, second = user.asked
    assert "May it?" in first["message"]
    assert '"version": 2' in first["message"]
    assert first["requestedSchema"]["properties"]["window"]["enum"] == ["day", "night"]
    assert "answers" in second["message"]


async def test_declining_rejects(served: Served):
    user = User({"action": "decline"})
    async with connected(served.url, elicit=user) as client:
        done = await client.call("run_server_asks", {})
        assert (done["isError"], "It was rejected." in str(done["content"])) == (True, True)


@pytest.mark.parametrize("era", ERAS)
async def test_a_tool_decides_what_a_client_cannot_be_asked(served: Served, era: str):
    user = User({"action": "cancel"})
    async with connected(served.url, era=era, elicit=user if era == "legacy" else None) as client:
        calling = asyncio.create_task(client.call("tasks_execute", WAITING))
        async with asyncio.timeout(30), connected(served.url, era=era) as other:
            found: list[Any] = []
            while not found:
                found = (await other.call("approvals_list"))["structuredContent"]["result"]
            refused = await other.call("approvals_approve", {"task_id": found[0]["task_id"]})
            assert refused["isError"]
            assert "window" in str(refused["content"])
            given = {"task_id": found[0]["task_id"], "answers": {"window": "night"}}
            answered = await other.call("approvals_approve", given)
            assert answered["structuredContent"]["status"] == "approved"
        assert (await calling)["structuredContent"]["result"]["answers"] == {"window": "night"}


@pytest.mark.skipif(not IS_SECOND, reason="version 1 of the SDK has no results that ask for input")
async def test_since_2026_07_28_the_result_asks_and_the_client_repeats_the_call(served: Served):
    async with connected(served.url, era="modern", elicit=User({"action": "accept"})) as client:
        asked = plain(await client.session.call_tool("tasks_execute", WAITING, allow_input_required=True))
        assert asked["resultType"] == "input_required"
        [(key, request)] = asked["inputRequests"].items()
        assert request["method"] == "elicitation/create"
        assert "May it?" in request["params"]["message"]
        again = {"request_state": asked["requestState"], "allow_input_required": True}
        for content, is_refused in (({"window": "noon"}, True), ({"window": "night"}, False)):
            responses = {key: types.ElicitResult(action="accept", content=content)}
            found = plain(
                await client.session.call_tool("tasks_execute", WAITING, input_responses=responses, **again)
            )
            assert bool(found.get("isError")) is is_refused
        assert found["structuredContent"]["result"]["answers"] == {"window": "night"}
        forged = {**again, "request_state": "bm90aGluZw=="}
        with pytest.raises(Exception, match="requestState"):
            await client.session.call_tool("tasks_execute", WAITING, **forged)


@pytest.mark.skipif(not IS_SECOND, reason="version 1 of the SDK has no extensions")
async def test_a_task_asks_by_its_state(served: Served):
    from mcp_task_clients import task_client

    async with task_client(served.url, elicit=User({"action": "accept"})) as client, asyncio.timeout(30):
        created = await client.call("tasks_execute", WAITING)
        state = await client.until(created["taskId"], "input_required")
        assert "May it?" in state["statusMessage"]
        [(key, request)] = state["inputRequests"].items()
        assert request["method"] == "elicitation/create"
        wrong = {key: {"action": "accept", "content": {"window": "noon"}}}
        with pytest.raises(Exception, match="window"):
            await client.request("tasks/update", created["taskId"], inputResponses=wrong)
        right = {key: {"action": "accept", "content": {"window": "night"}}}
        await client.request("tasks/update", created["taskId"], inputResponses=right)
        ended = await client.until(created["taskId"])
        assert ended["result"]["structuredContent"]["result"]["answers"] == {"window": "night"}


async def test_only_those_who_may_decide_are_asked():
    with asks(), serving(Settings(mcp_tools=("all",), jwt_secret=SECRET)) as served:
        user = User({"action": "accept"})
        async with connected(served.url, bearer("ann"), elicit=user) as ann:
            calling = asyncio.create_task(
                ann.call("tasks_execute", {"tasks": [asking(users=["boss"])], "wait": True})
            )
            async with asyncio.timeout(30), connected(served.url, bearer("boss")) as boss:
                found: list[Any] = []
                while not found:
                    found = (await boss.call("approvals_list"))["structuredContent"]["result"]
                task_id = {"task_id": found[0]["task_id"]}
                refused = await ann.call("approvals_approve", task_id)
                assert "Only user 'boss' or an admin may decide" in str(refused["content"])
                async with connected(served.url, bearer("eve")) as eve:
                    assert "There is no task" in str(await eve.call("approvals_reject", task_id))
                await boss.call("approvals_approve", task_id)
            assert (await calling)["structuredContent"]["result"]["by"] == "boss"
            assert user.asked == []


async def test_a_form_that_no_client_can_show_is_not_asked_for():
    assert requested_schema({"properties": {"a": {"type": "object"}}}) is None
    assert requested_schema({"anyOf": [{"required": ["a"]}]}) is None
    assert requested_schema({"properties": {"a": {"enum": [1, 2]}}}) is None
    flat = {"properties": {"a": {"enum": ["x"]}, "n": {"type": "integer", "minimum": 1}}, "required": ["n"]}
    assert requested_schema(flat) == {
        "type": "object",
        "properties": {"a": {"type": "string", "enum": ["x"]}, "n": {"type": "integer", "minimum": 1}},
        "required": ["n"],
    }
