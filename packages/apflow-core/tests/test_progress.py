"""Progress and log: four a second and task at most, the last one always, and never a reason to fail."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from apflow.core import BaseTask, MemoryStore, TaskCreator, TaskManager, executor_register, get_registry
from apflow.core.events.progress import ProgressQueue
from apflow.core.model.event import EventType, TaskEvent
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json, Task
from apflow.core.store.base import Change, TransitionResult


class Clock:
    """The event loop's clock, which advances only on request."""

    def __init__(self) -> None:
        self.now = 1000.0

    async def advance(self, seconds: float) -> None:
        self.now += seconds
        for _ in range(3):  # timers become ready in one turn and run in the next
            await asyncio.sleep(0)


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Clock]:
    clock = Clock()
    with monkeypatch.context() as patch:
        patch.setattr(asyncio.get_running_loop(), "time", lambda: clock.now)
        yield clock


class Heard:
    """A queue, and what came out of it."""

    def __init__(self, redact: Callable[[Json], Json] = lambda value: value) -> None:
        self.events: list[TaskEvent] = []
        self.notes: list[float] = []
        task = Task(id="t", name="n", root_id="r", status=TaskStatus.IN_PROGRESS)
        self.queue = ProgressQueue(
            task,
            self.events.append,
            lambda _, fraction: self.notes.append(fraction),
            redact,
            0.25,
            asyncio.get_running_loop(),
        )

    def put(self, kind: str = "progress", **event: Any) -> None:
        self.queue.put_nowait({"type": kind, **event})

    @property
    def messages(self) -> list[str | None]:
        return [event.message for event in self.events]


async def test_the_first_event_is_sent_at_once(clock: Clock):
    heard = Heard()
    heard.put(progress=0.1, message="begun")
    assert heard.messages == ["begun"]
    assert (heard.events[0].task_id, heard.events[0].root_task_id, heard.events[0].progress) == (
        "t",
        "r",
        0.1,
    )


async def test_what_comes_too_soon_is_held_back_and_only_the_last_of_it_sent(clock: Clock):
    heard = Heard()
    for at in range(10):
        heard.put(progress=at / 10, message=str(at))
    assert heard.messages == ["0"]
    await clock.advance(0.24)
    assert heard.messages == ["0"]
    await clock.advance(0.02)
    assert heard.messages == ["0", "9"]
    await clock.advance(10)
    assert heard.messages == ["0", "9"]


async def test_no_more_than_four_events_a_second_leave_a_task_and_its_column_is_noted_no_more_often(
    clock: Clock,
):
    heard = Heard()
    for at in range(1000):
        heard.put("log" if at % 2 else "progress", progress=at / 1000, message=str(at))
        await clock.advance(0.01)
    assert len(heard.events) <= 10 * 4 + 1
    assert len(heard.notes) <= 10 * 4 + 1
    assert {event.type for event in heard.events} == {EventType.LOG, EventType.PROGRESS}


async def test_the_last_of_each_kind_is_sent_when_the_call_ends(clock: Clock):
    heard = Heard()
    heard.put(message="first")
    heard.put("log", message="a log")
    heard.put(message="second")
    heard.put(message="last", progress=0.9)
    heard.queue.close()
    assert heard.messages == ["first", "a log", "last"]
    assert heard.notes == [0.9]


async def test_nothing_is_sent_after_the_call(clock: Clock):
    heard = Heard()
    heard.put(message="first")
    heard.put(message="held")
    heard.queue.close()
    heard.put(message="late")
    await clock.advance(1)
    assert heard.messages == ["first", "held"]


@pytest.mark.parametrize(
    ("event", "kind", "fraction"),
    [
        (
            {"type": "progress", "task_id": "t", "data": {"step": 3, "total": 4, "progress": 0.75}},
            "progress",
            0.75,
        ),
        ({"type": "progress", "progress": 0.5, "data": {"progress": 0.1}}, "progress", 0.5),
        ({"type": "log", "message": "hello"}, "log", None),
        ({"type": "whatever", "progress": 1}, "progress", 1.0),
        ({"message": "no type"}, "progress", None),
        ({"progress": 7}, "progress", 1.0),
        ({"progress": -1}, "progress", 0.0),
        ({"progress": 10**400}, "progress", 1.0),
        ({"progress": float("nan")}, "progress", 0.0),
        ({"progress": True}, "progress", None),
        ({"progress": "half"}, "progress", None),
        ({"data": ["a", "list"]}, "progress", None),
    ],
)
async def test_an_event_is_read_in_whatever_form_it_is_sent(
    event: dict[str, Any], kind: str, fraction: float | None
):
    heard = Heard()
    await heard.queue.put(event)
    assert (heard.events[0].type, heard.events[0].progress) == (kind, fraction)
    assert heard.events[0].data == event.get("data")


async def test_data_that_is_not_json_is_omitted_without_failing_the_task(caplog: pytest.LogCaptureFixture):
    heard = Heard()
    with caplog.at_level(logging.WARNING):
        heard.put(message="m", data={"x": object()})
    assert (heard.messages, heard.events[0].data) == (["m"], None)
    assert "data.x" in caplog.text


async def test_what_an_executor_changes_after_sending_changes_no_event(clock: Clock):
    heard, data = Heard(), {"step": 1}
    heard.put(data=data)
    data["step"] = 2
    heard.put(data=data)
    data["step"] = 3
    heard.queue.close()
    assert [event.data for event in heard.events] == [{"step": 1}, {"step": 2}]


async def test_secrets_are_taken_out_of_message_and_data():
    class ServerInfo:
        def __str__(self) -> str:
            return "holds s3cr3t"

    def redact(value: Json) -> Json:
        return value.replace("s3cr3t", "***") if isinstance(value, str) else {"x": "***"}

    heard = Heard(redact)
    heard.put("log", message=ServerInfo(), data={"x": "s3cr3t"})
    assert (heard.messages, heard.events[0].data) == (["holds ***"], {"x": "***"})


async def test_events_may_be_sent_from_a_thread():
    heard, main = Heard(), threading.get_ident()
    threads: list[int] = []
    heard.queue._publish = lambda event: threads.append(threading.get_ident())  # type: ignore[method-assign]
    await asyncio.to_thread(heard.put, message="from elsewhere")
    await asyncio.to_thread(lambda: asyncio.run(heard.queue.put({"message": "from a loop elsewhere"})))
    heard.queue.close()
    assert threads == [main, main]


# --- in a run --------------------------------------------------------------------------------------


class Counting(MemoryStore):
    """Counts how often the progress of a task is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[float] = []

    async def write(self, change: Change) -> TransitionResult:
        self.written += [move.sets["progress"] for move in change.moves if "progress" in move.sets]
        return await super().write(change)


@pytest.fixture
def run_of() -> Any:
    """Run one task of a given `execute`, and return its events and the store."""

    async def run(execute: Callable[[Any], Awaitable[Any]]) -> tuple[list[dict[str, Any]], Counting]:
        class Reports(BaseTask):
            id = "test_reports"

            async def execute(self, inputs: dict[str, Any]) -> Any:
                return await execute(self)

        executor_register(Reports, override=True)
        db, told = Counting(), list[dict[str, Any]]()
        manager = TaskManager(db)
        manager.streaming_callbacks.add(told.append)
        node = await TaskCreator(db).create_task_tree_from_array([{"id": "t", "name": "test_reports"}])
        await manager.distribute_task_tree_with_streaming(node)
        get_registry().unregister("test_reports")
        return told, db

    return run


async def test_report_progress_tells_fraction_message_and_data(run_of: Any):
    async def execute(executor: Any) -> None:
        await executor.report_progress(0.4, "nearly half", {"rows": 4})

    told, _db = await run_of(execute)
    event = told[2]
    assert (event["type"], event["progress"], event["message"]) == ("progress", 0.4, "nearly half")
    assert (event["data"], event["status"], event["sequence"]) == ({"rows": 4}, "in_progress", 3)


async def test_progress_of_a_bare_executor_is_ignored():
    class Bare(BaseTask):
        id = "bare"

        async def execute(self, inputs: dict[str, Any]) -> Any:
            await self.report_progress(0.5)

    assert await Bare().execute({}) is None


async def test_the_column_of_a_failed_task_keeps_its_last_progress(run_of: Any):
    async def execute(executor: Any) -> None:
        for at in range(1, 70):
            await executor.report_progress(at / 100)
        raise ValueError("no more")

    told, db = await run_of(execute)
    assert [event["progress"] for event in told if event["type"] == "progress"] == [0.01, 0.69]
    assert (await db.get(["t"]))["t"].progress == 0.69
    assert db.written == [0.01, 0.69]


async def test_a_held_event_comes_before_the_end_of_its_task(run_of: Any):
    async def execute(executor: Any) -> None:
        executor.event_queue.put_nowait({"type": "log", "message": "one"})
        executor.event_queue.put_nowait({"type": "log", "message": "two"})

    told, _ = await run_of(execute)
    assert [event["type"] for event in told[1:5]] == ["task_started", "log", "log", "task_completed"]
