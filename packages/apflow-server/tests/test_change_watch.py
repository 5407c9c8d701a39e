"""Whether a database may have changed: by writes of this process, notices of others, and time."""

from __future__ import annotations

import asyncio

import pytest

from apflow.core.events.bus import bus_of
from apflow.core.store.base import Notice, NoticeKind
from apflow.core.store.memory import MemoryStore
from apflow.server.streaming import change_watch
from apflow.server.streaming.change_watch import ChangeWatch

TIMEOUT = 30  # seconds, on a busy machine


class TimedStore(MemoryStore):
    """A store that says when it was written, as those with a file do."""

    last = 1.0

    @property
    def wrote_at(self) -> float:
        return self.last


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_watch, "POLL_INTERVAL_SECONDS", 0.01)
    monkeypatch.setattr(change_watch, "MAX_WAIT_SECONDS", 3600.0)


async def waits(watch: ChangeWatch) -> asyncio.Task[None]:
    """Return a task that waits for a change, after it has looked for one."""
    waiting = asyncio.create_task(watch.wait(0))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not waiting.done()
    return waiting


async def test_a_write_of_this_process_is_a_change():
    db = TimedStore()
    watch = ChangeWatch(db)
    watch.mark()
    waiting = await waits(watch)
    db.last = 2.0
    await asyncio.wait_for(waiting, TIMEOUT)


async def test_a_write_between_the_mark_and_the_waiting_is_a_change():
    db = TimedStore()
    watch = ChangeWatch(db)
    watch.mark()
    db.last = 2.0
    await asyncio.wait_for(watch.wait(0), TIMEOUT)


async def test_a_notice_of_another_process_is_a_change():
    db = TimedStore()
    watch = ChangeWatch(db)
    with watch.noticing():
        watch.mark()
        waiting = await waits(watch)
        bus_of(db).receive(Notice(NoticeKind.EVENTS, "r"))
        await asyncio.wait_for(waiting, TIMEOUT)
        watch.mark()
        (await waits(watch)).cancel()


async def test_what_nothing_announces_is_looked_for_from_time_to_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(change_watch, "MAX_WAIT_SECONDS", 0.02)
    watch = ChangeWatch(TimedStore())
    watch.mark()
    await asyncio.wait_for(watch.wait(0), TIMEOUT)


async def test_a_store_that_does_not_say_when_it_was_written_may_have_changed_at_any_time():
    watch = ChangeWatch(MemoryStore())
    watch.mark()
    await asyncio.wait_for(watch.wait(0), TIMEOUT)
