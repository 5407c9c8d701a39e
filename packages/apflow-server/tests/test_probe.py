from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import httpx
import pytest
from serving import Served, serving

from apflow.core import MemoryStore, Task
from apflow.core.store.base import Record
from apflow.server.http import health


def test_the_process_says_that_it_lives(http: httpx.Client):
    answer = http.get("/health")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")


def test_it_is_ready_while_the_store_answers_and_not_when_it_does_not(http: httpx.Client, served: Served):
    assert http.get("/ready").status_code == 200
    served.db.get = None  # type: ignore[method-assign, assignment]
    answer = http.get("/ready")
    assert (answer.status_code, answer.json()) == (503, {"status": "store unreachable"})


def test_who_asks_for_the_head_alone_is_answered(http: httpx.Client):
    for path in ("/health", "/ready"):
        answer = http.head(path)
        assert (answer.status_code, answer.content) == (200, b"")


def test_it_is_not_ready_once_it_drains(http: httpx.Client, served: Served):
    served.app.state.drain.begin()
    assert http.get("/ready").json() == {"status": "draining"}


class SlowStore(MemoryStore):
    """Does not answer the method that `slow` names."""

    capabilities = replace(MemoryStore.capabilities, is_durable=True)  # so the probe writes
    slow = ""

    async def get(self, ids: Sequence[str]) -> dict[str, Task]:
        await self._wait("get")
        return await super().get(ids)

    async def put_record(self, *record: Any, **more: Any) -> Record | None:
        await self._wait("put_record")
        return await super().put_record(*record, **more)

    async def _wait(self, name: str) -> None:
        while self.slow == name:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("method", ["get", "put_record"])
def test_it_gives_the_reason_when_the_store_does_not_answer_in_time(
    method: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(health, "TIMEOUT", 0.2)
    db = SlowStore()
    with serving(db=db) as served, httpx.Client(base_url=served.url) as http:
        assert http.get("/ready").status_code == 200
        db.slow = method
        answer = http.get("/ready")
        assert answer.status_code == 503
        assert answer.json() == {"status": "store unreachable", "reason": "it did not answer within 0.2 s"}
        assert answer.headers["Retry-After"] == "1"
        assert http.get("/health").status_code == 200  # a restart of the process would not help
        db.slow = ""
        assert http.get("/ready").status_code == 200
