"""Trees that run on a real server, for a task here."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from peers.apflowserver import ApflowServer, apflow_server, until
from peers.strangehttp import hang, result, strange_peer

from apflow.client import Client, ServerUnreachableError
from apflow.core import TaskCreator, TaskManager, create_session
from apflow.core.errors import AddressRefusedError, NotFoundError
from apflow.executor.apflow import (
    ApFlowApiExecutor,
    RemoteInputError,
    RemoteTimeoutError,
    RemoteTreeCancelledError,
    RemoteTreeFailedError,
)

SAY = {"name": "far_say", "inputs": {"text": "hello"}}


async def call(server: ApflowServer, method: str, params: dict[str, Any], **inputs: Any) -> dict[str, Any]:
    given = {"base_url": server.url, "method": method, "params": params, "timeout": 30, **inputs}
    return await ApFlowApiExecutor().execute(given)


@pytest.mark.parametrize("more", [{}, {"use_streaming": False, "poll_interval": 0.05}])
async def test_what_runs_there_is_waited_for(server: ApflowServer, more: dict[str, Any]):
    for method, params in (
        ("tasks.execute", {"tasks": [SAY]}),
        ("tasks.execute", {"tasks": [SAY], "wait": True, "use_streaming": True}),
        ("tasks.submit", {"tasks": [SAY]}),
        ("tasks.create", {"tasks": SAY, "execute": True}),
    ):
        done = await call(server, method, params, **more)
        assert (done["result"], done["status"]) == ({"said": "hello"}, "completed")
        again = await call(server, "tasks.watch", {"task_id": done["task_id"]}, **more)
        assert again == done


async def test_a_run_need_not_be_waited_for(server: ApflowServer):
    asked = await call(server, "tasks.execute", {"tasks": [{"name": "far_hold"}]}, wait_for_completion=False)
    assert asked["status"] in ("pending", "in_progress")
    cancelled = await call(server, "tasks.cancel", {"task_ids": [asked["task_id"]], "force": True})
    assert (cancelled["result"][0]["status"], cancelled["status"]) == ("cancelled", "completed")


async def test_other_operations_return_their_answer(server: ApflowServer):
    made = await call(server, "tasks.create", {"tasks": [SAY]})
    assert (made["result"]["name"], made["task_id"]) == ("far_say", made["result"]["id"])
    got = await call(server, "tasks.get", {"task_id": made["task_id"]})
    assert (got["result"]["status"], got["status"]) == ("pending", "completed")
    health = await call(server, "system.health", {})
    assert (health["result"]["status"], health["task_id"]) == ("healthy", None)


async def test_a_failure_there_is_a_failure_here(server: ApflowServer):
    with pytest.raises(RemoteTreeFailedError, match="out of paper") as failed:
        await call(
            server, "tasks.execute", {"tasks": [{"name": "far_fail", "inputs": {"text": "out of paper"}}]}
        )
    assert server.url in str(failed.value)
    with pytest.raises(NotFoundError, match="nobody"):
        await call(server, "tasks.execute", {"task_id": "nobody"})


async def test_what_somebody_cancels_there_has_not_completed_here(server: ApflowServer):
    asked = await call(server, "tasks.submit", {"tasks": [{"name": "far_hold"}]}, wait_for_completion=False)
    watching = asyncio.ensure_future(call(server, "tasks.watch", {"task_id": asked["task_id"]}))
    async with Client(server.url) as client:
        await client.tasks_cancel([asked["task_id"]], force=True, error_message="not today")
    with pytest.raises(RemoteTreeCancelledError, match="not today"):
        await watching


async def test_a_timeout_cancels_there(server: ApflowServer, tmp_path: Path):
    gone = tmp_path / "gone"
    params = {"tasks": [{"name": "far_hold", "inputs": {"gone": str(gone)}}]}
    with pytest.raises(RemoteTimeoutError, match=r"0\.5 s"):
        await call(server, "tasks.execute", params, timeout=0.5)
    await until(gone.exists)


async def test_cancel_here_is_cancel_there_at_any_moment(server: ApflowServer, tmp_path: Path):
    async with Client(server.url) as client:
        for number, moment in enumerate((0.0, 0.01, 0.03, 0.1, 0.5)):
            executor = ApFlowApiExecutor()
            name = f"moment {number}"
            params = {"tasks": [{"name": name, "schemas": {"method": "far_hold"}}]}
            inputs = {"base_url": server.url, "method": "tasks.execute", "params": params}
            running = asyncio.ensure_future(executor.execute(inputs))
            await asyncio.sleep(moment)
            async with asyncio.timeout(30):
                partial = await executor.cancel()
                running.cancel()
                await asyncio.wait([running])
                assert running.cancelled()
            found = await client.tasks_list(name=name)
            assert [each.status for each in found] in ([], ["cancelled"])
            if moment == 0.5:
                assert partial == {"partial_result": {"task_id": found[0].id, "base_url": server.url}}


@pytest.mark.parametrize(
    "inputs",
    [
        {"base_url": "ftp://host"},
        {"base_url": "http://me:pa55word@host"},
        {"params": {"task": 1}},
        {"method": "tasks.get", "params": {"task_id": 7}},
        {"headers": {"a b": "c"}},
        {"auth_token": "two\nlines"},
    ],
)
async def test_what_cannot_be_called_is_refused_before_anything_is_sent(
    server: ApflowServer, inputs: dict[str, Any]
):
    given = {"base_url": server.url, "method": "tasks.execute", "params": {"task_id": "a"}}
    with pytest.raises(RemoteInputError) as refused:
        await ApFlowApiExecutor().execute(given | inputs)
    assert "pa55word" not in str(refused.value)
    assert "two" not in str(refused.value)


async def test_the_network_policy_holds(server: ApflowServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("APFLOW_NET_POLICY", "public")
    with pytest.raises(AddressRefusedError):
        await call(server, "system.health", {})


async def test_nobody_there_and_somebody_who_hangs():
    given = {"method": "system.health", "params": {}}
    with pytest.raises((ServerUnreachableError, RemoteTimeoutError)):
        await ApFlowApiExecutor().execute({"base_url": "http://127.0.0.1:1", "timeout": 0.5} | given)
    with strange_peer(hang) as peer, pytest.raises(RemoteTimeoutError):
        await ApFlowApiExecutor().execute({"base_url": peer.url, "timeout": 0.3} | given)
    with strange_peer(result([1])) as peer:
        done = await ApFlowApiExecutor().execute({"base_url": peer.url} | given)
        assert done["result"] == [1]


async def run_here(
    tasks: list[dict[str, Any]], events: list[dict[str, Any]] | None = None
) -> tuple[Any, list[dict[str, Any]]]:
    """Run a tree in this process; return its root and the events, which are also added to `events`."""
    events = [] if events is None else events
    async with create_session("memory://") as store:
        manager = TaskManager(store)
        tree = await TaskCreator(store).create_task_tree_from_array(tasks)

        async def listen() -> None:
            async for event in manager.subscribe(tree.task.id, 0):
                events.append(event.to_dict())

        async with asyncio.TaskGroup() as group:
            group.create_task(listen())
            await manager.distribute_task_tree(tree)
        return (await store.get([tree.task.id]))[tree.task.id], events


async def test_a_repeated_attempt_goes_on_with_the_same_tree(server: ApflowServer, tmp_path: Path):
    far = [
        {"id": "a", "name": "a", "schemas": {"method": "far_say"}, "dependencies": ["b"]},
        {"id": "b", "name": "b", "parent_id": "a", "schemas": {"method": "far_fail"}},
    ]
    far[1]["inputs"] = {"once": str(tmp_path / "once")}
    inputs = {"base_url": server.url, "method": "tasks.execute", "params": {"tasks": far}}
    async with Client(server.url) as client:
        before = (await client.tasks_count(root_only=True)).total
        policy = {"retry": {"max_attempts": 3, "delay": 0.01}}
        task = {"id": "same", "name": "apflow_api_executor", "inputs": inputs, "policy": policy}
        done, _ = await run_here([task])
        assert (done.status, done.attempts, done.error) == ("completed", 2, None)
        assert (await client.tasks_count(root_only=True)).total == before + 1
        other, _ = await run_here([task])  # the same id, in another database
        assert other.result["task_id"] != done.result["task_id"]


def fractions_of(events: list[dict[str, Any]]) -> list[float]:
    reported = [each["progress"] for each in events if each["type"] == "progress"]
    return [each for each in reported if each is not None]


async def test_progress_there_is_progress_here(server: ApflowServer, tmp_path: Path):
    end = tmp_path / "end"
    far = [
        {"id": "all", "name": "all"},
        {"id": "hold", "name": "far_hold", "parent_id": "all", "inputs": {"until": str(end)}},
        {"id": "say", "name": "far_say", "parent_id": "all"},
    ]
    inputs = {"base_url": server.url, "method": "tasks.submit", "params": {"tasks": far}}
    events: list[dict[str, Any]] = []
    running = asyncio.ensure_future(run_here([{"name": "apflow_api_executor", "inputs": inputs}], events))
    await until(lambda: len(fractions_of(events)) >= 3)
    end.touch()
    done, _ = await running
    assert done.status == "completed"
    told = [each for each in events if each["type"] == "progress"]
    fractions = fractions_of(events)
    assert fractions == sorted(fractions)
    assert fractions[-1] > 0.3
    assert any(each["message"] and each["message"].startswith("step") for each in told)


@pytest.mark.parametrize("is_streaming", [True, False])
async def test_a_restart_there_is_survived(tmp_path: Path, is_streaming: bool):
    end, begun = tmp_path / "end", tmp_path / "begun"
    inputs = {"until": str(end), "begun": str(begun)}
    with apflow_server(tmp_path, is_durable=True) as server:
        params = {"tasks": [{"name": "far_hold", "inputs": inputs}]}
        more = {"use_streaming": is_streaming, "poll_interval": 0.1}
        running = asyncio.ensure_future(call(server, "tasks.execute", params, **more))
        await until(begun.exists)
        await asyncio.to_thread(server.kill)
        end.touch()
        await asyncio.to_thread(server.start)
        assert (await running)["result"] == {"said": "it ended"}
