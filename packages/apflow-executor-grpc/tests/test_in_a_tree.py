import logging
import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import trustme
from peers.grpcserver import Peer

from apflow.core.extensions.executor import BaseTask
from apflow.core.extensions.registry import executor_register, get_registry
from apflow.core.store.memory import MemoryStore
from apflow.core.task_executor import TaskExecutor


@pytest_asyncio.fixture
async def store() -> AsyncIterator[MemoryStore]:
    async with MemoryStore() as opened:
        yield opened


async def run(store: MemoryStore, *tasks: dict[str, Any]) -> dict[str, Any]:
    return dict(await TaskExecutor().execute_tasks(list(tasks), db_session=store))


def call(peer: Peer, method: str, request: Any, **more: Any) -> dict[str, Any]:
    return {"name": "grpc_executor", "inputs": peer.inputs(method, request, **more)}


async def test_a_request_is_filled_from_the_response_of_another_task(peer: Peer, store: MemoryStore):
    total = {"$from": "sum", "path": "response.number"}
    done = await run(
        store,
        {"id": "count", "dependencies": ["sum"], **call(peer, "Count", {"number": total})},
        {"id": "sum", "parent_id": "count", **call(peer, "Sum", [{"number": 1}, {"number": 2}])},
    )
    assert done["status"] == "completed"
    assert [each["number"] for each in done["result"]["responses"]] == ["0", "1", "2"]


async def test_the_result_of_another_task_never_says_what_is_called(peer: Peer, store: MemoryStore):
    @executor_register(executor_id="test_hostile_grpc")
    class Hostile(BaseTask):
        async def execute(self, inputs: dict[str, Any]) -> Any:
            return peer.inputs("Greet", {"name": "x"})

    try:
        done = await run(
            store,
            {"id": "call", "name": "grpc_executor", "dependencies": ["read"]},
            {"id": "read", "name": "test_hostile_grpc", "parent_id": "call"},
        )
    finally:
        get_registry().unregister("test_hostile_grpc")
    assert done["result"]["error_type"] == "ValidationError"
    assert not peer.calls


async def test_a_call_that_fails_fails_the_task(peer: Peer, store: MemoryStore):
    done = await run(store, call(peer, "Fail", {"code": 5, "message": "gone", "rich": True}))
    assert (done["status"], done["result"]["error_type"]) == ("failed", "GrpcCallError")
    assert "NOT_FOUND: gone" in done["error"]
    assert "NAME_TAKEN" in done["error"]


@pytest.mark.parametrize("kind", ["right", "wrong", "absent", "late", "misplaced"])
async def test_a_secret_is_in_no_result_error_event_or_log(
    peer: Peer,
    store: MemoryStore,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    secret = secrets.token_urlsafe(24)
    monkeypatch.setenv("APFLOW_SECRET_TOKEN", f"Bearer {secret}")
    peer.token = secret if kind == "right" else "another"
    key = pem_key()
    monkeypatch.setenv("APFLOW_SECRET_KEY", key)
    metadata = {"authorization": {"$secret": "TOKEN"}, "x-copy": {"$secret": "TOKEN"}}
    task = call(peer, "Private", {}, metadata=metadata)
    inputs = task["inputs"]
    if kind == "absent":
        inputs["server"] = "127.0.0.1:1"
        inputs["tls"] = {"cert": key.replace("PRIVATE KEY", "CERTIFICATE"), "key": {"$secret": "KEY"}}
    if kind == "late":
        inputs |= {"method": "Sleep", "request": "60s", "timeout": 0.2}
    if kind == "misplaced":
        inputs |= {"method": "Echo", "request": {"small_number": {"$secret": "TOKEN"}}}
    with caplog.at_level(logging.DEBUG):
        done = await run(store, task)
    events = [event async for event in _events(store, done["root_task_id"])]
    told = f"{done} {caplog.text} {events}"
    assert done["status"] == ("completed" if kind == "right" else "failed")
    assert secret not in told
    assert key.splitlines()[1] not in told


async def _events(store: MemoryStore, root_id: str) -> AsyncIterator[Any]:
    for event in await store.events(root_id, 0):
        yield event


def pem_key() -> str:
    return trustme.CA().issue_cert("client.test").private_key_pem.bytes().decode()
