"""The lease of a tree while code of its run blocks the event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from apflow.core import BaseTask, TaskCreator, TaskManager, executor_register, get_registry
from apflow.core.settings import overridden_defaults
from apflow.storage.postgres.store import PostgresStore

LEASE = 3.0  # seconds
PATIENCE = 30.0


class Observer:
    """Another process of the database: reads the lease of a tree, and asks for trees without an owner."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._is_over = threading.Event()
        self.leases: set[datetime | None] = set()
        self.unowned: list[str] = []
        self._thread = threading.Thread(target=lambda: asyncio.run(self._observe()))

    def __enter__(self) -> Observer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    async def _observe(self) -> None:
        async with PostgresStore(self._url, lease=timedelta(seconds=LEASE)) as store:
            while not self._is_over.is_set():
                self.unowned += [root.id for root in await store.unowned("another", 10)]
                self.leases.add((await store.get(["r"]))["r"].lease_until)
                await asyncio.sleep(0.05)


class Blocks(BaseTask):
    """Blocks the event loop until its lease was renewed more than once after it would have ended."""

    id = "test_blocks_lease"
    observer: Observer

    async def execute(self, inputs: dict[str, Any]) -> Any:
        self.block()

    def block(self) -> None:
        end = time.monotonic() + PATIENCE
        earliest = time.monotonic() + 1.5 * LEASE
        while time.monotonic() < end:
            if len(Blocks.observer.leases) > 4 and time.monotonic() > earliest:
                return
            time.sleep(0.02)


@pytest.fixture(autouse=True)
def _executor() -> Iterator[None]:
    executor_register(Blocks, override=True)
    yield
    get_registry().unregister(Blocks.id)


async def test_code_that_blocks_the_event_loop_keeps_its_lease(postgres_url: str):
    async with PostgresStore(postgres_url, lease=timedelta(seconds=LEASE)) as store:
        tree = await TaskCreator(store).create_task_tree_from_array([{"id": "r", "name": Blocks.id}])
        with overridden_defaults(lease_seconds=LEASE), Observer(postgres_url) as observer:
            Blocks.observer = observer
            done = await TaskManager(store).distribute_task_tree(tree)
        assert done["status"] == "completed"
        assert len(observer.leases) > 4
        assert observer.unowned == []
