"""A2A: no user sees anything of another one, on any transport."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest
from a2a.client.client import Client
from a2a.types import (
    CancelTaskRequest,
    DeleteTaskPushNotificationConfigRequest,
    GetExtendedAgentCardRequest,
    GetTaskPushNotificationConfigRequest,
    GetTaskRequest,
    ListTaskPushNotificationConfigsRequest,
    ListTasksRequest,
    SubscribeToTaskRequest,
    TaskPushNotificationConfig,
)
from a2a_clients import TRANSPORTS, agent, calling, message, replies, tree
from serving import SECRET, Served, bearer, serving
from trees import Steps, steps

from apflow.core.settings import Settings

ANN, BEN, ADMIN = bearer("ann"), bearer("ben"), bearer("root", role="admin")
SECRET_VALUE = "something that only Ann knows"
MISSING = "there-is-no-such-task"

Operation = Callable[[Client, str, Any], Awaitable[object]]

OPERATIONS: dict[str, Operation] = {
    "get": lambda c, t, x: c.get_task(GetTaskRequest(id=t), context=x),
    "cancel": lambda c, t, x: c.cancel_task(CancelTaskRequest(id=t), context=x),
    "subscribe": lambda c, t, x: replies(c.subscribe(SubscribeToTaskRequest(id=t), context=x)),
    "follow-up": lambda c, t, x: replies(c.send_message(tree({"name": "n"}, task_id=t), context=x)),
    "reference": lambda c, t, x: replies(
        c.send_message(message(reference_task_ids=[t], metadata={"copy_execution": True}), context=x)
    ),
    "copy": lambda c, t, x: replies(
        c.send_message(message({}, metadata={"task_id": t, "copy_execution": True}), context=x)
    ),
    "execute": lambda c, t, x: replies(c.send_message(message({}, metadata={"task_id": t}), context=x)),
    "cancel by message": lambda c, t, x: replies(c.send_message(message(task_id=t), context=x)),
    "operation": lambda c, t, x: replies(
        c.send_message(message({"task_id": t}, metadata={"method": "tasks.get"}), context=x)
    ),
    "push": lambda c, t, x: c.create_task_push_notification_config(
        TaskPushNotificationConfig(task_id=t, url="http://203.0.113.9/"), context=x
    ),
    "push get": lambda c, t, x: c.get_task_push_notification_config(
        GetTaskPushNotificationConfigRequest(task_id=t, id="x"), context=x
    ),
    "push list": lambda c, t, x: c.list_task_push_notification_configs(
        ListTaskPushNotificationConfigsRequest(task_id=t), context=x
    ),
    "push delete": lambda c, t, x: c.delete_task_push_notification_config(
        DeleteTaskPushNotificationConfigRequest(task_id=t, id="x"), context=x
    ),
}


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("APFLOW_NET_ALLOW", "203.0.113.9")
        settings = Settings(jwt_secret=SECRET, rate_limit=1_000_000, a2a_grpc_bind="127.0.0.1:0")
        with steps(), serving(settings) as found:
            yield found


@pytest.fixture
async def task(served: Served) -> str:
    """A tree of Ann's that has ended."""
    async with agent(served.url) as client:
        request = tree({"name": Steps.id, "inputs": {"n": SECRET_VALUE}}, context_id="of-both")
        return (await replies(client.send_message(request, context=calling(ANN))))[0].task.id


async def said(operation: Operation, client: Client, task_id: str, headers: dict[str, str]) -> str:
    """Return the error of an operation, without the ID that it was called with."""
    with pytest.raises(Exception) as caught:
        await operation(client, task_id, calling(headers))
    return str(caught.value).replace(task_id, "ID")


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_task_of_another_is_a_missing_one(served: Served, task: str, transport: str, operation: str):
    async with agent(served.url, transport=transport) as client:
        foreign = await said(OPERATIONS[operation], client, task, BEN)
        missing = await said(OPERATIONS[operation], client, MISSING, BEN)
        assert foreign == missing
        assert SECRET_VALUE not in foreign


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_lists_show_the_callers_own(served: Served, task: str, transport: str):
    async with agent(served.url, transport=transport) as client:
        for request in (ListTasksRequest(include_artifacts=True), ListTasksRequest(context_id="of-both")):
            own = await client.list_tasks(request, context=calling(ANN))
            other = await client.list_tasks(request, context=calling(BEN))
            assert task in {each.id for each in own.tasks}
            assert (len(other.tasks), other.total_size) == (0, 0)
        everything = await client.list_tasks(ListTasksRequest(page_size=100), context=calling(ADMIN))
        assert task in {each.id for each in everything.tasks}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("headers", [{}, bearer("ann", expires_in=-60), bearer("ann", secret="x" * 64)])
async def test_without_a_good_token_nothing_is_answered(
    served: Served, task: str, transport: str, headers: dict[str, str]
):
    everything = {
        **OPERATIONS,
        "list": lambda c, t, x: c.list_tasks(ListTasksRequest(), context=x),
        "card": lambda c, t, x: c.get_extended_agent_card(GetExtendedAgentCardRequest(), context=x),
        "send": lambda c, t, x: replies(c.send_message(tree({"name": "n"}), context=x)),
    }
    async with agent(served.url, transport=transport) as client:
        for name, operation in everything.items():
            refusal = await said(operation, client, task, headers)
            assert "token" in refusal.lower() or "401" in refusal, (name, refusal)


async def test_the_refusal_over_http_is_401(served: Served):
    async with httpx.AsyncClient(base_url=served.url) as http:
        for path in ("/", "/a2a", "/v1/message:send"):
            answer = await http.post(path, json={})
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_grpc_checks_the_version(served: Served):
    async with agent(served.url, transport="GRPC") as client:
        context = calling(ANN)
        assert context.service_parameters is not None
        context.service_parameters["A2A-Version"] = "99.0"
        with pytest.raises(Exception, match="99"):
            await client.list_tasks(ListTasksRequest(), context=context)
