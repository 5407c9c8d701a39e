"""The contract of a store: an approval is decided by one of several processes, and wakes the waiting one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from apflow.core.engine import approvals
from apflow.core.engine.worker import Worker
from apflow.core.errors import ApprovalClosedError
from apflow.core.extensions.approval import ask_approval
from apflow.core.extensions.executor import BaseTask
from apflow.core.extensions.registry import executor_register, get_registry
from apflow.core.model.approval import KIND, ApprovalRequest
from apflow.core.model.event import EventType
from apflow.core.service.task_service import TaskService
from apflow.core.store.base import TaskStore
from apflow.testing.storebase import StoreMaker


class _Asks(BaseTask):
    id = "contract_asks"
    name = "Asks"
    description = "Asks for an approval."
    only_waits = True

    async def execute(self, inputs: dict[str, Any]) -> Any:
        approval = await ask_approval(ApprovalRequest(question="May it?", data=inputs))
        assert approval.decision is not None
        return approval.decision.to_json()


class StoreApprovalContract(StoreMaker):
    """An approval is a record, and its decision another one of the same key, which is written once.

    The rules are in `TaskStore.put_record` (`version`) and, for the notice, in `TaskStore.listen`.
    """

    async def test_one_of_several_who_decide_at_once_has_decided(self, store: TaskStore) -> None:
        async with _waiting(store):
            await _check_one_decides(store, [TaskService(store) for _ in range(4)])

    async def test_one_of_several_processes_decides_at_once(self, two: tuple[TaskStore, TaskStore]) -> None:
        async with _waiting(two[0]):
            await _check_one_decides(two[0], [TaskService(each) for each in (*two, *two)])

    async def test_a_decision_of_another_process_wakes_the_task(
        self, two: tuple[TaskStore, TaskStore], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(approvals, "MIN_POLL_SECONDS", 3600.0)  # so that only a notice can wake it
        monkeypatch.setattr(approvals, "MAX_POLL_SECONDS", 3600.0)
        async with _waiting(two[0]):
            await TaskService(two[1]).approve("r")
            await _ended(two[0])


@asynccontextmanager
async def _waiting(store: TaskStore) -> AsyncGenerator[None]:
    """Run a task that waits for an approval as long as the context lasts."""
    executor_register(_Asks, override=True)
    worker = Worker(store)
    working = asyncio.create_task(worker.run())
    try:
        await TaskService(store).submit([{"id": "r", "name": _Asks.id, "inputs": {"n": 1}}])
        async with asyncio.timeout(30):
            while not any(each.value["is_announced"] for each in await store.records(KIND)):  # noqa: ASYNC110 - a store sends no event
                await asyncio.sleep(0.02)
        yield
        worker.drain()
        await working
    finally:
        working.cancel()
        await asyncio.wait([working])
        get_registry().unregister(_Asks.id)


async def _ended(store: TaskStore) -> Any:
    async with asyncio.timeout(30):
        while (await store.get(["r"]))["r"].status != "completed":  # noqa: ASYNC110 - a store sends no event
            await asyncio.sleep(0.02)
    return (await store.get(["r"]))["r"].result


async def _check_one_decides(store: TaskStore, services: list[TaskService]) -> None:
    deciding = [each.approve("r", reason=str(at)) for at, each in enumerate(services)]
    outcomes = await asyncio.gather(*deciding, return_exceptions=True)
    won = [each for each in outcomes if isinstance(each, dict)]
    assert [type(each) for each in outcomes if not isinstance(each, dict)] == [ApprovalClosedError] * 3
    assert (await _ended(store))["reason"] == won[0]["decision"]["reason"]
    stored = [each.type for each in await store.events("r")]
    assert (len(won), stored.count(EventType.APPROVAL_DECIDED)) == (1, 1)
