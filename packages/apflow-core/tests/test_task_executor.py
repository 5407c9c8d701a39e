"""TaskExecutor: one per process, many runs at once, on any event loop and thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from apflow.core import (
    BaseTask,
    TaskCreator,
    TaskExecutor,
    TaskManager,
    TaskStore,
    executor_register,
    get_registry,
)
from apflow.core.errors import AlreadyRunningError, InvalidInputError, NotFoundError


class Plain(BaseTask):
    """Returns what it was given, or waits until it is let go."""

    id = "test_plain"
    instances: list[Any] = []
    waiting: threading.Semaphore

    def __init__(self) -> None:
        self.own: list[Any] = []

    async def execute(self, inputs: dict[str, Any]) -> Any:
        self.instances.append(self)
        self.own.append(inputs.get("n"))
        if inputs.get("do") == "wait":
            Plain.waiting.release()
            await asyncio.Event().wait()
        if inputs.get("do") == "fail":
            raise ValueError("asked to")
        await asyncio.sleep(0)
        return {"own": self.own, "root": self.root_task_id}


@pytest.fixture(autouse=True)
def executors() -> Iterator[None]:
    Plain.instances.clear()
    Plain.waiting = threading.Semaphore(0)
    executor_register(Plain, override=True)
    yield
    get_registry().unregister(Plain.id)


def task(task_id: str, parent: str | None = None, **inputs: Any) -> dict[str, Any]:
    return {"id": task_id, "name": "test_plain", "parent_id": parent, "inputs": inputs}


async def execute(db: TaskStore, *tasks: dict[str, Any], **options: Any) -> dict[str, Any]:
    async with asyncio.timeout(30):
        return await TaskExecutor().execute_tasks(tasks, db_session=db, **options)


async def started(count: int = 1) -> None:
    """Wait until so many executors wait."""
    for _ in range(count):
        assert await asyncio.to_thread(Plain.waiting.acquire, timeout=10)


def test_there_is_one_in_a_process():
    found: list[TaskExecutor] = []
    threads = [threading.Thread(target=lambda: found.append(TaskExecutor())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {id(each) for each in found} == {id(TaskExecutor())}


async def test_the_answer_tells_status_progress_result_and_the_real_root(db: TaskStore):
    answer = await execute(db, task("a", n=1), task("b", "a"), root_task_id="root_123")
    assert answer == {
        "status": "completed", "progress": 1.0, "root_task_id": "a", "result": {"own": [1], "root": "a"},
        "error": None, "tolerated": [],
    }  # fmt: skip


async def test_a_failure_is_reported_with_the_name_of_its_task(db: TaskStore):
    answer = await execute(db, task("a"), task("b", "a", do="fail"))
    assert (answer["status"], answer["error"]) == ("failed", "task test_plain: asked to")


async def test_a_run_is_known_under_its_key_and_its_root_while_it_lasts(db: TaskStore):
    executor = TaskExecutor()
    running = asyncio.create_task(execute(db, task("a", do="wait"), root_task_id="root_123"))
    await started()
    assert executor.running_tasks() == ["root_123"]
    assert executor.is_task_running("root_123")
    assert executor.is_task_running("a")
    assert (await executor.cancel_task("root_123", "enough"))["message"] == "enough"
    assert (await running)["status"] == "cancelled"
    assert executor.running_tasks() == []
    assert not executor.is_task_running("a")


async def test_two_runs_may_have_one_key_and_the_end_of_one_forgets_only_that(db: TaskStore):
    executor = TaskExecutor()
    first = asyncio.create_task(execute(db, task("a", do="wait"), root_task_id="key"))
    await started()
    second = asyncio.create_task(execute(db, task("b", do="wait"), root_task_id="key"))
    await started()
    assert executor.running_tasks() == ["key"]
    await executor.cancel_task("key")  # the last one
    assert (await second)["root_task_id"] == "b"
    assert executor.is_task_running("key")
    await executor.cancel_task("key")
    assert (await first)["status"] == "cancelled"
    assert not executor.is_task_running("key")


async def test_a_refused_second_run_does_not_make_the_first_unknown(db: TaskStore):
    executor = TaskExecutor()
    running = asyncio.create_task(execute(db, task("a", do="wait")))
    await started()
    with pytest.raises(AlreadyRunningError):
        await executor.execute_task_by_id("a", db_session=db)
    assert executor.is_task_running("a")
    await executor.cancel_task("a", db_session=db)
    await running


async def test_runs_at_once_share_no_instance_and_no_state(db: TaskStore):
    answers = await asyncio.gather(*(execute(db, task(f"t{at}", n=at)) for at in range(10)))
    assert [answer["result"] for answer in answers] == [{"own": [at], "root": f"t{at}"} for at in range(10)]
    assert len({id(each) for each in Plain.instances}) == 10


async def test_a_registered_instance_is_copied_for_each_run(db: TaskStore):
    class Kept(Plain):
        id = "test_kept"

    kept = Kept()
    executor_register(kept, override=True)
    await execute(db, {"name": "test_kept"})
    await execute(db, {"name": "test_kept"})
    get_registry().unregister("test_kept")
    assert kept.task_id is None
    assert len({id(each) for each in Plain.instances} | {id(kept)}) == 3


async def test_running_instances_are_there_for_who_asked_and_gone_afterwards(db: TaskStore):
    instances: dict[str, Any] = {}
    manager = TaskManager(db, executor_instances=instances)
    node = await TaskCreator(db).create_task_tree_from_array([task("a", do="wait")])
    running = asyncio.create_task(manager.distribute_task_tree(node))
    await started()
    assert isinstance(instances["a"], Plain)
    await manager.cancel_task("a")
    await running
    assert instances == {}


# --- streaming -------------------------------------------------------------------------------------

WHOLE = ["tree_started", "task_started", "task_completed", "tree_completed"]


async def test_events_stream_into_a_queue(db: TaskStore):
    queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    answer = await execute(db, task("a"), use_streaming=True, streaming_callbacks_context=queue)
    assert answer["status"] == "completed"
    assert [queue.get_nowait()["type"] for _ in range(queue.qsize())] == WHOLE


@pytest.mark.parametrize("is_async", [True, False])
async def test_events_stream_into_a_callable(db: TaskStore, is_async: bool):
    told: list[str] = []

    def hear(event: dict[str, Any]) -> None:
        told.append(event["type"])

    async def hear_later(event: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        told.append(event["type"])

    context = hear_later if is_async else hear
    await execute(db, task("a"), use_streaming=True, streaming_callbacks_context=context)
    assert told == WHOLE
    await TaskExecutor().execute_task_by_id("a", True, context, db, force=True)
    assert told == [*WHOLE, "task_reset", *WHOLE]


async def test_a_queue_that_is_read_meanwhile_may_be_small(db: TaskStore):
    queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(maxsize=1)
    tasks = [task("r"), *(task(f"t{at}", "r") for at in range(20))]
    running = asyncio.create_task(execute(db, *tasks, use_streaming=True, streaming_callbacks_context=queue))
    types: list[str] = []
    while not types or types[-1] != "tree_completed":
        types.append((await queue.get())["type"])
    assert (await running)["status"] == "completed"
    assert len(types) == 1 + 21 * 2 + 1


async def test_streaming_without_a_context_is_a_run_like_any_other(db: TaskStore):
    assert (await execute(db, task("a"), use_streaming=True))["status"] == "completed"


async def test_a_context_that_cannot_be_called_is_refused_before_anything_is_created(db: TaskStore):
    with pytest.raises(InvalidInputError, match="streaming_callbacks_context"):
        await execute(db, task("a"), use_streaming=True, streaming_callbacks_context=object())
    assert await db.get(["a"]) == {}


async def test_an_unknown_task_is_refused(db: TaskStore):
    with pytest.raises(NotFoundError):
        await TaskExecutor().execute_task_by_id("nobody", db_session=db)


# --- event loops and threads -----------------------------------------------------------------------


def test_one_event_loop_after_the_other_serves_one_store(db: TaskStore):
    assert asyncio.run(execute(db, task("a")))["status"] == "completed"
    assert asyncio.run(execute(db, task("b")))["status"] == "completed"
    answer = asyncio.run(TaskExecutor().execute_task_by_id("a", db_session=db, force=True))
    assert answer["status"] == "completed"


def test_event_loops_in_several_threads_use_one_store_at_once(db: TaskStore):
    answers: dict[str, Any] = {}
    together = threading.Barrier(3)

    def work(name: str) -> None:
        together.wait(10)
        tasks = [task(name), *(task(f"{name}{at}", name) for at in range(25))]
        answers[name] = asyncio.run(execute(db, *tasks))

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert {name: answer["status"] for name, answer in answers.items()} == dict.fromkeys("abc", "completed")
    for name in "abc":
        events = asyncio.run(db.events(name))
        assert [event.sequence for event in events] == list(range(1, 26 * 3 + 3))
        assert {str(each.status) for each in asyncio.run(db.tree(name))} == {"completed"}


def test_a_run_can_be_cancelled_from_another_threads_event_loop(db: TaskStore):
    answers: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: answers.append(asyncio.run(execute(db, task("a", do="wait")))))
    thread.start()
    assert Plain.waiting.acquire(timeout=10)
    answer = asyncio.run(TaskExecutor().cancel_task("a", "from elsewhere", db_session=db))
    thread.join(10)
    assert (answer["status"], answer["message"]) == ("cancelled", "from elsewhere")
    assert [each["status"] for each in answers] == ["cancelled"]


def test_a_run_in_another_thread_is_refused_a_second_time_here(db: TaskStore):
    thread = threading.Thread(target=lambda: asyncio.run(execute(db, task("a", do="wait"))))
    thread.start()
    assert Plain.waiting.acquire(timeout=10)
    with pytest.raises(AlreadyRunningError):
        asyncio.run(TaskExecutor().execute_task_by_id("a", db_session=db))
    asyncio.run(TaskExecutor().cancel_task("a", db_session=db))
    thread.join(10)
    assert not thread.is_alive()
