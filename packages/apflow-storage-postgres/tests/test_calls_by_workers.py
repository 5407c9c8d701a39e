"""Calls that a worker of the same database makes keep to the contract of runners."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping

import pytest

from apflow.core.engine.call_desk import desk_of
from apflow.core.engine.call_taker import CallTaker
from apflow.core.extensions.executor_call import ExecutorCall, Message, Receive
from apflow.core.model.resources import Offer
from apflow.core.model.task import Json
from apflow.core.settings import get_settings
from apflow.storage.postgres.store import PostgresStore
from apflow.testing.runner import RunnerContract


class OnWorkers:
    """The workers of one database as a runner, also for trees of other stores."""

    def __init__(self, store: PostgresStore) -> None:
        self.store = store

    async def run(self, call: ExecutorCall, receive: Receive) -> Mapping[str, Json]:
        return await desk_of(self.store).run(call, receive)

    async def send(self, call_id: str, message: Message) -> bool:
        return await desk_of(self.store).send(call_id, message)

    async def close(self) -> None:
        await desk_of(self.store).close()


class Worker(threading.Thread):
    """Makes calls in a separate thread, with another store."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self._is_over = asyncio.Event()
        self._loop = asyncio.new_event_loop()

    def run(self) -> None:
        self._loop.run_until_complete(self._work())
        self._loop.close()

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._is_over.set)
        self.join()

    async def _work(self) -> None:
        async with PostgresStore(self._url) as store:
            assert store.call_exchange is not None
            taker = CallTaker(store.call_exchange, "w", Offer(is_open=True, max_calls=100), get_settings())
            working = asyncio.create_task(taker.run())
            await self._is_over.wait()
            working.cancel()
            await asyncio.wait([working])


class TestWorkers(RunnerContract):
    store: PostgresStore

    @pytest.fixture(autouse=True)
    def worker(self, postgres_url: str) -> Iterator[None]:
        self.store = PostgresStore(postgres_url)
        worker = Worker(postgres_url)
        worker.start()
        yield
        worker.end()
        asyncio.run(self.store.close())

    def make_runner(self) -> OnWorkers:
        return OnWorkers(self.store)
