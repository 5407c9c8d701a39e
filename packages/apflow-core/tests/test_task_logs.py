"""What the code of tasks logs and prints is stored by task and attempt, and still reaches its handlers."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import pytest

from apflow.core import BaseTask, MemoryStore, TaskCreator, TaskManager, executor_register, get_registry
from apflow.core.capture.streams import echoing_to
from apflow.core.capture.task_log import TaskLog
from apflow.core.errors import InvalidInputError, SettingsError, StoreError, StoreUnavailableError
from apflow.core.events import log_writer
from apflow.core.events.bus import bus_of
from apflow.core.model.event import EventType, TaskEvent
from apflow.core.model.log import LogChunk, LogEntry, LogLine, LogQuery
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json
from apflow.core.settings import reset_settings
from apflow.core.store.base import Change, TaskQuery, TaskStore, TransitionResult

SECRET = "hunter2-is-no-password"
Work = Callable[["Talks", dict[str, Any]], Awaitable[Any]]


class Talks(BaseTask):
    """Does what the test wants."""

    id = "test_talks"
    work: Work

    async def execute(self, inputs: dict[str, Any]) -> Any:
        return await type(self).work(self, inputs)


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    executor_register()(Talks)
    yield
    get_registry().unregister("test_talks")
    reset_settings()


async def run(store: TaskStore, work: Work, **task: Any) -> str:
    """Run one task and return its id."""
    Talks.work = work
    tree = await TaskCreator(store).create_task_tree_from_array([{"name": "test_talks", **task}])
    await TaskManager(store).distribute_task_tree(tree)
    return tree.task.id


async def lines_of(store: TaskStore, root_id: str) -> list[LogLine]:
    return await store.logs(LogQuery(root_task_id=root_id))


async def logged(work: Callable[[Talks], object], **task: Any) -> list[tuple[str, int, str]]:
    """Run code as a task, and return the source, the level and the text of each line of its log."""

    async def call(talks: Talks, _: dict[str, Any]) -> None:
        result = work(talks)
        if isinstance(result, Awaitable):
            await result

    store = MemoryStore()
    found = await lines_of(store, await run(store, call, **task))
    return [(line.entry.source, line.entry.level, line.entry.message) for line in found]


# --- what is captured ------------------------------------------------------------------------------


async def test_prints_records_and_own_lines_are_kept_in_order():
    def work(talks: Talks) -> None:
        print("a", "b")
        sys.stderr.write("c\nd\n")
        logging.getLogger("any.logger").error("e %d", 1)
        talks.log("f", level="WARNING")
        talks.log("g", level=logging.CRITICAL)
        print("h", end="")

    assert await logged(work) == [
        ("stdout", 20, "a b"),
        ("stderr", 20, "c"),
        ("stderr", 20, "d"),
        ("logging", 40, "e 1"),
        ("executor", 30, "f"),
        ("executor", 50, "g"),
        ("stdout", 20, "h"),
    ]


async def test_lines_have_the_task_the_attempt_and_the_name_of_the_logger():
    async def work(talks: Talks, _: dict[str, Any]) -> None:
        logging.getLogger("my.logger").warning("attempt %d", talks.attempts)
        if talks.attempts < 3:
            raise ValueError("again")

    store = MemoryStore()
    task_id = await run(store, work, policy={"retry": {"max_attempts": 3, "delay": 0}})
    found = await lines_of(store, task_id)
    recorded = [line for line in found if line.entry.source == "logging"]
    assert [(line.attempt, line.entry.message) for line in recorded] == [
        (number, f"attempt {number}") for number in (1, 2, 3)
    ]
    assert [line.attempt for line in found if line.entry.source == "traceback"] == [1, 2]
    assert {line.entry.logger for line in recorded} == {"my.logger"}
    assert {(line.task_id, line.root_task_id, line.generation) for line in found} == {(task_id, task_id, 0)}


async def test_records_of_every_logger_are_captured_whatever_its_handlers_and_its_propagation():
    logger = logging.getLogger("test.apart")
    logger.propagate, logger.handlers = False, [logging.NullHandler()]
    try:
        assert await logged(lambda _: logger.warning("apart")) == [("logging", 30, "apart")]
    finally:
        logger.propagate, logger.handlers = True, []


async def test_records_below_the_level_of_the_root_logger_are_captured_from_info_on():
    assert logging.getLogger().level > logging.INFO or not logging.getLogger("test.x").isEnabledFor(10)

    def work(_: Talks) -> None:
        logging.getLogger("test.x").info("info")
        logging.getLogger("test.x").debug("debug")

    assert await logged(work) == [("logging", 20, "info")]


async def test_a_level_that_is_set_on_a_logger_is_respected():
    parent = logging.getLogger("test.quiet")
    parent.setLevel(logging.ERROR)
    try:
        assert await logged(lambda _: logging.getLogger("test.quiet.child").warning("hushed")) == []
    finally:
        parent.setLevel(logging.NOTSET)


async def test_disabled_logging_is_not_captured():
    logging.disable(logging.WARNING)
    try:
        assert await logged(lambda _: logging.getLogger("test.x").warning("off")) == []
    finally:
        logging.disable(logging.NOTSET)


async def test_the_traceback_of_a_record_is_kept():
    def work(_: Talks) -> None:
        try:
            int("no number")
        except ValueError:
            logging.getLogger("test.x").exception("it failed")

    [(_, level, text)] = await logged(work)
    assert level == logging.ERROR
    assert text.startswith("it failed\nTraceback") and "\nValueError: " in text


async def test_a_record_with_wrong_arguments_is_kept_unformatted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)
    assert await logged(lambda _: logging.getLogger("x").warning("%d", "no number")) == [
        ("logging", 30, "%d")
    ]


async def test_threads_with_the_context_of_the_task_are_captured():
    async def work(_: Talks) -> None:
        await asyncio.gather(*(asyncio.to_thread(print, f"thread {at}") for at in range(20)))

    found = await logged(work)
    assert sorted(text for _, _, text in found) == sorted(f"thread {at}" for at in range(20))


async def test_threads_and_asyncio_tasks_that_interleave_keep_their_lines_whole():
    def count(name: str) -> None:
        for at in range(200):
            print(name, at)

    async def work(_: Talks) -> None:
        await asyncio.gather(*(asyncio.to_thread(count, name) for name in "abcd"))

    texts = [text for _, _, text in await logged(work)]
    for name in "abcd":
        assert [text for text in texts if text[0] == name] == [f"{name} {at}" for at in range(200)]


async def test_bytes_written_below_the_text_stream_are_captured(capfdbinary: pytest.CaptureFixture[bytes]):
    def work(_: Talks) -> None:
        sys.stdout.buffer.write("näh\n".encode())

    assert await logged(work) == [("stdout", 20, "näh")]


async def test_the_message_of_a_log_event_is_captured():
    def work(talks: Talks) -> None:
        assert talks.event_queue is not None
        talks.event_queue.put_nowait({"type": "log", "message": "event line"})

    assert await logged(work) == [("event", 20, "event line")]


async def test_own_lines_need_a_valid_level_and_outside_of_a_run_do_nothing():
    Talks().log("nothing happens")
    with pytest.raises(InvalidInputError, match="'LOUD' is not a log level"):
        Talks().log("x", level="LOUD")


# --- what still happens ----------------------------------------------------------------------------


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record.getMessage())
        print("a handler prints", file=sys.stderr)


async def test_records_reach_their_handlers_as_before_and_what_handlers_write_is_not_captured():
    handler, logger = Kept(), logging.getLogger("test.handled")
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)

    def work(_: Talks) -> None:
        for level in (logging.INFO, logging.WARNING):
            logger.log(level, "level %d", level)

    try:
        assert await logged(work) == [("logging", 30, "level 30")]
        assert handler.records == ["level 30"]
        logger.setLevel(logging.NOTSET)
        handler.records.clear()
        assert [text for _, _, text in await logged(work)] == ["level 20", "level 30"]
        assert handler.records == (["level 20"] if logging.getLogger().level <= 20 else []) + ["level 30"]
    finally:
        logger.handlers = []


async def test_prints_reach_standard_output_too(capsys: pytest.CaptureFixture[str]):
    def work(_: Talks) -> None:
        print("shown")
        print("error", file=sys.stderr)

    await logged(work)
    assert capsys.readouterr() == ("shown\n", "error\n")


async def test_what_tasks_print_can_go_elsewhere(capsys: pytest.CaptureFixture[str]):
    elsewhere = io.StringIO()
    with echoing_to(elsewhere):
        assert await logged(lambda _: print("there")) == [("stdout", 20, "there")]
        print("data")
    with echoing_to(None):
        assert await logged(lambda _: print("nowhere")) == [("stdout", 20, "nowhere")]
    assert elsewhere.getvalue() == "there\n"
    assert capsys.readouterr() == ("data\n", "")


async def test_basic_config_of_users_code_still_works():
    root = logging.getLogger()
    before, root.handlers = root.handlers, []
    stream = io.StringIO()

    def work(_: Talks) -> None:
        logging.basicConfig(stream=stream, format="%(message)s")
        logging.getLogger("test.x").warning("configured")

    try:
        assert await logged(work) == [("logging", 30, "configured")]
        assert stream.getvalue() == "configured\n"
    finally:
        root.handlers = before


async def test_other_threads_and_code_outside_of_tasks_are_not_captured():
    def work(_: Talks) -> None:
        thread = threading.Thread(target=print, args=("another thread",))
        thread.start()
        thread.join()

    assert await logged(work) in (
        [],
        [("stdout", 20, "another thread")],
    )  # Python 3.14 may inherit the context
    print("outside")
    logging.getLogger("test.x").warning("outside")


async def test_a_finalizer_that_prints_while_a_line_is_added_does_not_block(monkeypatch: pytest.MonkeyPatch):
    keep = TaskLog._keep

    def keep_and_print(self: TaskLog, entry: LogEntry) -> None:
        keep(self, entry)
        if entry.message == "outer":
            print("inner")

    monkeypatch.setattr(TaskLog, "_keep", keep_and_print)
    found = await asyncio.to_thread(asyncio.run, logged(lambda talks: talks.log("outer")))
    assert [text for _, _, text in found] == ["outer", "inner"]


async def test_a_process_that_code_forks_prints_as_before(capfd: pytest.CaptureFixture[str]):
    def work(_: Talks) -> None:
        print("parent")
        pid = os.fork()
        if pid == 0:
            try:
                print("child", flush=True)
                logging.getLogger("test.x").info("not enabled")
            except BaseException:  # noqa: BLE001 - reported as the exit code
                os._exit(1)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    assert await logged(work) == [("stdout", 20, "parent")]
    assert "child" in capfd.readouterr().out


# --- limits and secrets ----------------------------------------------------------------------------


async def test_a_log_beyond_its_limit_keeps_its_beginning_and_its_end_and_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("APFLOW_TASK_LOG_MAX_BYTES", "10000")
    reset_settings()

    def work(_: Talks) -> None:
        for at in range(1000):
            print(f"{at:04}")

    found = await logged(work)
    texts = [text for _, _, text in found]
    kept = 10_000 // 104
    assert texts[:kept] == [f"{at:04}" for at in range(kept)]
    assert "limit of 10000 bytes (task_log_max_bytes) is reached" in texts[kept]
    assert texts[kept + 1] == f"{1000 - kept - 100} lines were dropped here."
    assert texts[kept + 2 :] == [f"{at:04}" for at in range(900, 1000)]
    assert [source for source, _, _ in found].count("engine") == 2


async def test_a_long_line_is_cut_and_counted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("APFLOW_TASK_LOG_LINE_LENGTH", "10")
    reset_settings()

    def work(talks: Talks) -> None:
        print("x" * 50)
        talks.log("y" * 11)
        sys.stdout.write("z" * 100_000)

    assert [text for _, _, text in await logged(work)] == [
        f"{'x' * 10}... [40 more characters]",
        f"{'y' * 10}... [1 more characters]",
        f"{'z' * 10}... [99990 more characters]",
    ]


async def test_secrets_are_masked_however_they_are_written(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("APFLOW_SECRET_KEY", SECRET)
    monkeypatch.setenv("APFLOW_TASK_LOG_LINE_LENGTH", "300")
    reset_settings()

    async def work(talks: Talks, inputs: dict[str, Any]) -> None:
        key = inputs["key"]
        print("printed", key)
        for part in ("sent in ", key[:9], key[9:], " parts\n"):
            sys.stdout.write(part)
        logging.getLogger("test.x").warning("logged %s", key)
        logging.getLogger("test.x").error("raised", exc_info=ValueError(key))
        talks.log(f"own {key}")
        sys.stdout.write("-" * 290 + key + "-" * 20_000)
        assert talks.event_queue is not None
        talks.event_queue.put_nowait({"type": "log", "message": f"event {key}"})

    store = MemoryStore()
    events: list[TaskEvent] = []
    with bus_of(store).observing(events.extend):
        task_id = await run(store, work, inputs={"key": {"$secret": "KEY"}})
    found = await lines_of(store, task_id)
    assert len(found) == 7
    assert all("***" in line.entry.message or line.entry.message[:3] == "---" for line in found)
    for part in (SECRET, SECRET[:10]):
        assert part not in repr(found)
        assert part not in repr([event.to_dict() for event in events])


async def test_nothing_is_captured_when_it_is_off_and_a_wrong_level_is_refused(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("APFLOW_TASK_LOG_LEVEL", "off")
    reset_settings()
    assert await logged(lambda talks: (print("x"), talks.log("y"))) == []
    monkeypatch.setenv("APFLOW_TASK_LOG_LEVEL", "LOUD")
    reset_settings()
    with pytest.raises(SettingsError, match=r"APFLOW_TASK_LOG_LEVEL is 'LOUD'\. Use one of DEBUG"):
        await logged(lambda _: None)


async def test_the_level_is_a_setting(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("APFLOW_TASK_LOG_LEVEL", "error")
    reset_settings()

    def work(talks: Talks) -> None:
        logging.getLogger("test.x").warning("no")
        logging.getLogger("test.x").error("yes")
        talks.log("no")

    assert [text for _, _, text in await logged(work)] == ["yes"]


# --- storing and publishing ------------------------------------------------------------------------


class Ordered(MemoryStore):
    """A store that notes the order of writes, and fails to store lines on request."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self.order: list[str] = []
        self.errors = list(errors)

    async def add_logs(self, chunks: Sequence[LogChunk]) -> None:
        await asyncio.sleep(0.02)
        self.order.append("lines")
        if self.errors:
            raise self.errors.pop(0)
        await super().add_logs(chunks)

    async def write(self, change: Change) -> TransitionResult:
        self.order += [str(move.sets["status"]) for move in change.moves if "status" in move.sets]
        return await super().write(change)


async def test_lines_are_stored_and_published_before_the_end_of_their_task():
    store = Ordered()
    events: list[TaskEvent] = []

    async def work(_: Talks, __: dict[str, Any]) -> None:
        print("last words")

    with bus_of(store).observing(events.extend):
        await run(store, work)
    assert store.order == ["in_progress", "lines", "completed"]
    kinds = [event.type for event in events]
    assert kinds.index(EventType.LOG) < kinds.index(EventType.TASK_COMPLETED)
    [event] = [event for event in events if event.type is EventType.LOG]
    data: Json = event.data
    assert (event.message, data["attempt"], data["count"]) == ("last words", 1, 1)
    assert [line["message"] for line in data["lines"]] == ["last words"]


async def test_many_tasks_that_end_at_once_share_batches():
    store = Ordered()
    started = 0
    go_on = asyncio.Event()

    async def work(_: Talks, __: dict[str, Any]) -> None:
        nonlocal started
        started += 1
        if started == 100:
            go_on.set()
        await go_on.wait()
        print("x")

    Talks.work = work
    array = [{"id": "r", "name": "r"}]
    array += [{"id": str(at), "name": "test_talks", "parent_id": "r"} for at in range(100)]
    tree = await TaskCreator(store).create_task_tree_from_array(array)
    await TaskManager(store).distribute_task_tree(tree)
    assert store.order.count("lines") <= 10
    assert len(await lines_of(store, tree.task.id)) == 100


async def test_a_task_that_logs_for_long_is_stored_meanwhile():
    store = MemoryStore()
    seen = asyncio.Event()

    async def work(talks: Talks, _: dict[str, Any]) -> None:
        print("first")
        while not await lines_of(store, str(talks.root_task_id)):
            await asyncio.sleep(0.01)
        seen.set()

    await asyncio.wait_for(run(store, work), 30)
    assert seen.is_set()


@pytest.mark.parametrize(
    ("error", "kept"),
    [(StoreUnavailableError("memory://", "full", "cannot be written now."), 1), (StoreError("broken"), 0)],
)
async def test_a_store_that_takes_no_lines_does_not_hold_up_the_task(
    error: Exception, kept: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(log_writer, "RETRY_SECONDS", 0.05)
    store = Ordered(error)

    async def work(_: Talks, __: dict[str, Any]) -> None:
        print("x")

    task_id = await asyncio.wait_for(run(store, work), 30)
    assert (await store.get([task_id]))[task_id].status is TaskStatus.COMPLETED
    for _ in range(200):
        if len(await lines_of(store, task_id)) == kept:
            break
        await asyncio.sleep(0.01)
    assert len(await lines_of(store, task_id)) == kept


async def test_the_lines_of_a_cancelled_and_of_a_failed_task_are_kept():
    store = MemoryStore()
    begun = asyncio.Event()

    async def wait(_: Talks, __: dict[str, Any]) -> None:
        print("waiting")
        begun.set()
        await asyncio.Event().wait()

    async def fail(_: Talks, __: dict[str, Any]) -> None:
        print("failing")
        raise ValueError

    running = asyncio.create_task(run(store, wait))
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    [root] = await store.find(TaskQuery())
    assert [line.entry.message for line in await lines_of(store, root.id)] == ["waiting"]
    printed, failure = [line.entry for line in await lines_of(store, await run(store, fail))]
    assert printed.message == "failing"
    assert (failure.source, failure.level) == ("traceback", logging.ERROR)
    assert failure.message.endswith("ValueError") and "in fail" in failure.message
