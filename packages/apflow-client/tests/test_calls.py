"""Calls of a real server, with and without asyncio."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from peers.apflowserver import ApflowServer

from apflow.client import Client, ServerUnreachableError, SyncClient, UnknownOperationError
from apflow.core.errors import (
    AlreadyRunningError,
    ConflictError,
    ExecutorNotFoundError,
    IdTakenError,
    InvalidInputError,
    KeyUsedError,
    NotFoundError,
    TreeInvalidError,
)
from apflow.core.service.operations import OPERATIONS

SAY = {"name": "far_say", "inputs": {"text": "hello"}}


def test_every_operation_of_the_table_is_a_method_of_both_clients():
    for name in OPERATIONS:
        method = name.replace(".", "_")
        assert callable(getattr(Client, method))
        assert callable(getattr(SyncClient, method))


async def test_results_are_the_models_of_the_table(server: ApflowServer):
    async with Client(server.url) as client:
        made = await client.tasks_create(SAY)
        assert (made.name, made.status, made.children) == ("far_say", "pending", [])
        changed = await client.tasks_update(made.id, priority=0)
        assert changed.priority == 0
        assert (await client.tasks_get(made.id)).created_at is not None
        now = datetime.now(UTC)
        listed = await client.tasks_list(created_after=now - timedelta(minutes=5), created_before=now)
        assert made.id in [each.id for each in listed]
        assert (await client.tasks_why(made.id)).reasons
        assert (await client.tasks_attempts(made.id)) == []
        assert (await client.tasks_get(made.id, history=True)).history == []
        assert (await client.tasks_delete(made.id)).deleted_count == 1
        health = await client.system_health()
        assert health.storage.kind == "memory"


def test_the_same_without_asyncio(server: ApflowServer):
    with SyncClient(server.url) as client:
        done = client.tasks_execute(tasks=SAY, wait=True)
        assert (done.success, done.status, done.error) == (True, "completed", None)
        assert (done.model_extra or {})["result"] == {"said": "hello"}
        [attempt] = client.tasks_attempts(done.task_id)
        assert (attempt.number, attempt.outcome, attempt.error) == (1, "completed", None)
        assert client.tasks_get(done.task_id, history=True).history == [attempt]
        kinds = [event.type for event in client.watch(done.root_task_id)]
        assert (kinds[0], kinds[-1]) == ("snapshot", "tree_completed")
        with pytest.raises(NotFoundError, match="'nobody'"):
            client.tasks_get("nobody")
        with pytest.raises(NotFoundError):
            list(client.watch("nobody"))


async def test_what_the_server_refuses_is_the_error_of_the_core(server: ApflowServer):
    async with Client(server.url) as client:
        with pytest.raises(NotFoundError) as missing:
            await client.tasks_get("nobody")
        assert missing.value.task_id == "nobody"
        with pytest.raises(ExecutorNotFoundError) as unknown:
            await client.system_executor("nothing_executor")
        assert unknown.value.executor_id == "nothing_executor"
        with pytest.raises(InvalidInputError) as invalid:
            await client.call("tasks.get", {"task_id": 3, "more": 1})
        assert len(invalid.value.violations) == 2
        with pytest.raises(TreeInvalidError) as invalid:
            await client.tasks_create([{"name": "a"}, {"name": "b"}])
        assert invalid.value.violations
        done = await client.tasks_execute(tasks=SAY, wait=True)
        with pytest.raises(ConflictError, match="completed"):
            await client.tasks_delete(done.task_id)
        with pytest.raises(UnknownOperationError, match=r"Did you mean 'tasks\.get'"):
            await client.call("tasks.gett")
        with pytest.raises(InvalidInputError, match="use `watch`"):
            await client.call("tasks.watch", {"task_id": "a"})
        with pytest.raises(InvalidInputError, match="cannot be converted to JSON"):
            await client.call("tasks.create", {"tasks": {"name": object()}})


async def test_each_kind_of_conflict_is_an_error_of_its_own(server: ApflowServer, tmp_path: Path):
    end = tmp_path / "end"
    held: dict[str, Any] = {"id": "conflict", "name": "far_hold", "inputs": {"until": str(end)}}
    async with Client(server.url) as client:
        await client.tasks_submit(held)
        await client.tasks_create(SAY, idempotency_key="conflict")
        with pytest.raises(AlreadyRunningError) as running:
            await client.tasks_execute("conflict")
        with pytest.raises(IdTakenError) as taken:
            await client.tasks_create([held], on_conflict="error")
        with pytest.raises(KeyUsedError) as used:
            await client.tasks_create({"name": "other"}, idempotency_key="conflict")
        end.touch()
    assert running.value.root_id == "conflict"
    assert taken.value.task_ids == ["conflict"]
    assert used.value.key == "conflict"
    for caught, here in (
        (running, AlreadyRunningError("conflict")),
        (taken, IdTakenError(["conflict"])),
        (used, KeyUsedError("conflict")),
    ):
        assert str(caught.value) == str(here)


def test_the_same_errors_without_asyncio(server: ApflowServer):
    with SyncClient(server.url) as client:
        client.tasks_create(SAY | {"id": "taken"})
        with pytest.raises(IdTakenError) as taken:
            client.tasks_create(SAY | {"id": "taken"}, on_conflict="error")
        assert taken.value.task_ids == ["taken"]
        with pytest.raises(NotFoundError) as missing:
            list(client.watch("nobody"))
        assert missing.value.task_id == "nobody"


async def test_a_failed_run_is_an_answer(server: ApflowServer):
    async with Client(server.url) as client:
        failed = await client.tasks_execute(tasks={"name": "far_fail", "inputs": {"text": "no"}}, wait=True)
        assert (failed.success, failed.status) == (False, "failed")
        assert failed.error is not None
        assert failed.error.endswith("no")
        assert failed.message == failed.error


async def test_the_same_key_makes_one_tree(server: ApflowServer):
    async with Client(server.url) as client:
        ids = {(await client.tasks_submit(SAY, idempotency_key="once")).id for _ in range(3)}
        assert len(ids) == 1


async def test_nobody_there_is_said_with_what_to_do():
    async with Client("http://127.0.0.1:1", patience=0) as client:
        with pytest.raises(ServerUnreachableError, match=r"cannot be reached.*apflow serve") as absent:
            await client.system_health()
        assert not absent.value.was_sent


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host",
        "host:8000",
        "http://",
        "http://user:pass@host",
        "http://host?a=1",
        "http://host:port",
        "7",
    ],
)
def test_what_is_no_address_is_refused(url: str):
    with pytest.raises(InvalidInputError, match="address") as refused:
        Client(url)
    assert "pass@" not in str(refused.value)


def test_without_an_address_it_is_that_of_the_settings(monkeypatch: pytest.MonkeyPatch, server: ApflowServer):
    monkeypatch.delenv("APFLOW_API_URL", raising=False)
    with pytest.raises(InvalidInputError, match="APFLOW_API_URL"):
        SyncClient()
    monkeypatch.setenv("APFLOW_API_URL", f"{server.url}/")
    with SyncClient() as client:
        assert client.url == server.url
        assert client.system_health().status == "healthy"


def test_a_header_that_cannot_be_sent_is_refused_without_being_told():
    with pytest.raises(InvalidInputError, match="Authorization") as refused:
        Client("http://host", "secret\r\nX: 1")
    assert "secret" not in str(refused.value)
    assert "token" not in repr(vars(Client("http://host", "token-of-mine"))["_target"])


NUMBERS = ["timeout", "patience", "reconnect_for", "silence", "max_bytes"]


@pytest.mark.parametrize("kind", [Client, SyncClient])
def test_every_number_of_a_client_is_tested(kind: type[Any]):
    hints = get_type_hints(kind.__init__)
    assert {name for name, hint in hints.items() if {int, float} & {hint, *get_args(hint)}} == set(NUMBERS)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [-1, 1e12, 10**400, float("inf"), float("nan"), True])
def test_a_number_of_a_client_has_bounds(name: str, value: Any):
    with pytest.raises(InvalidInputError, match=f"{name} must be") as refused:
        Client("http://127.0.0.1:1", **{name: value})
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("patience", [-1, 1e12, 10**400, float("inf"), float("nan"), True])
def test_the_patience_of_one_call_has_bounds(patience: float):
    with (
        SyncClient("http://127.0.0.1:1") as client,
        pytest.raises(InvalidInputError, match="patience must be"),
    ):
        client.call("system.health", patience=patience)
