"""A store that is closed while it renews leases."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from apflow.core import BaseTask, MemoryStore, TaskExecutor, executor_register, get_registry
from apflow.core.errors import ApflowError
from apflow.core.settings import overridden_defaults


class Closing(MemoryStore):
    """Cancels each renewal, as a store does that ends its own thread."""

    capabilities = replace(MemoryStore.capabilities, is_shared=True)
    renewals = 0

    async def renew(self, owner: str, root_ids: Sequence[str]) -> dict[str, bool]:
        self.renewals += 1
        raise asyncio.CancelledError


class Waits(BaseTask):
    """Waits for longer than its lease."""

    id = "test_waits_for_lease"

    async def execute(self, inputs: dict[str, Any]) -> Any:
        await asyncio.sleep(600)


@pytest.fixture(autouse=True)
def executor() -> Iterator[None]:
    executor_register(Waits)
    yield
    get_registry().unregister(Waits.id)


async def test_a_renewal_that_is_cancelled_counts_as_failed():
    """The thread of the leases continues: an unhandled exception in it would fail this test."""
    async with Closing() as db:
        with overridden_defaults(lease_seconds=0.6, cancel_grace=0.1):
            array = [{"id": "t", "name": "t", "params": {"executor_id": Waits.id}}]
            async with asyncio.timeout(30):
                with suppress(ApflowError):  # the lease is lost
                    await TaskExecutor().execute_tasks(array, db_session=db)
        assert db.renewals >= 2
