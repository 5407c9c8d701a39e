"""Cancelling: what ends, how its code is notified, and what is kept."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from apflow.core import (
    BaseTask,
    MemoryStore,
    TaskCreator,
    TaskManager,
    TaskTreeNode,
    clear_hooks,
    executor_register,
    get_registry,
)
from apflow.core.engine import active_runs
from apflow.core.engine.cancellation import CancelRequest
from apflow.core.engine.recovery import recover
from apflow.core.extensions.hooks import register_pre_hook, register_task_tree_hook
from apflow.core.model.task import GROUP, Task
from apflow.core.settings import reset_settings
from apflow.core.store.base import Change, Transition, TransitionResult


class Waits(BaseTask):
    """Waits until it is cancelled; `mode` says how it reacts."""

    id = "waits"
    started: asyncio.Event
    seen: list[str] = []

    async def execute(self, inputs: dict[str, Any]) -> Any:
        Waits.started.set()
        if inputs.get("mode") == "stubborn":
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                await asyncio.sleep(0.05)
                self.seen.append("cleaned up")
                raise
        await asyncio.sleep(60)


class Checks(Waits):
    """Looks at `cancellation_checker` and returns what it has."""

    id = "checks"
    cancelable = True

    async def execute(self, inputs: dict[str, Any]) -> Any:
        Waits.started.set()
        assert self.cancellation_checker is not None
        while not self.cancellation_checker():
            await asyncio.sleep(0)
        return {"status": "cancelled", "message": "stopped", "done": 3}


class Tells(Waits):
    """Overrides `cancel`."""

    id = "tells"

    async def cancel(self) -> Any:
        self.seen.append("cancel called")
        return {"status": "cancelled", "partial_result": [1, 2], "token_usage": {"total_tokens": 5}}


class Finishes(Waits):
    """Completes although it was cancelled."""

    id = "finishes"
    cancelable = True

    async def execute(self, inputs: dict[str, Any]) -> Any:
        await Checks.execute(self, inputs)  # type: ignore[arg-type]
        return {"answer": 42}


@pytest.fixture(autouse=True)
async def executors():
    Waits.started = asyncio.Event()
    Waits.seen.clear()
    for each in (Waits, Checks, Tells, Finishes):
        executor_register(each, override=True)
    yield
    for each in (Waits, Checks, Tells, Finishes):
        get_registry().unregister(each.id)
    clear_hooks()


@pytest.fixture
def db() -> MemoryStore:
    return MemoryStore()


def task(
    task_id: str, parent: str | None = None, *needs: Any, executor: str = "waits", **more: Any
) -> dict[str, Any]:
    return {"id": task_id, "name": executor, "parent_id": parent, "dependencies": list(needs), **more}


async def begin(db: MemoryStore, *tasks: dict[str, Any]) -> tuple[TaskManager, asyncio.Task[Any]]:
    node = await TaskCreator(db).create_task_tree_from_array(tasks)
    manager = TaskManager(db)
    running = asyncio.create_task(manager.distribute_task_tree(node))
    await Waits.started.wait()
    return manager, running


async def statuses(db: MemoryStore, root_id: str) -> dict[str, str]:
    return {each.id: str(each.status) for each in await db.tree(root_id)}


async def test_running_pending_and_dependent_tasks_all_end_cancelled(db):
    manager, running = await begin(db, task("r"), task("a", "r", "r"), task("b", "a"), task("c", "r", "b"))
    answer = await manager.cancel_task("r", "not wanted")
    assert answer == {"status": "cancelled", "task_id": "r", "message": "not wanted"}
    assert set((await statuses(db, "r")).values()) == {"cancelled"}
    assert (await running)["status"] == "cancelled"
    assert (await db.get(["r"]))["r"].error == "not wanted"
    assert (await db.events("r"))[-1].type == "tree_cancelled"


async def test_only_the_subtree_and_what_needs_it_is_cancelled(db):
    manager, running = await begin(
        db, task("g", executor=GROUP), task("a", "g", executor="checks"),
        task("b", "g", "a", executor="checks"), task("c", "g", executor="finishes"),
    )  # fmt: skip
    await manager.cancel_task("a")
    assert await statuses(db, "g") == {
        "g": "in_progress",
        "a": "cancelled",
        "b": "cancelled",
        "c": "in_progress",
    }
    await manager.cancel_task("c")
    assert (await running)["status"] == "cancelled"


async def test_an_executor_that_checks_ends_by_itself_and_its_dict_is_kept(db):
    manager, running = await begin(db, task("a", executor="checks"))
    answer = await manager.cancel_task("a")
    await running
    assert answer["result"] == {"status": "cancelled", "message": "stopped", "done": 3}


async def test_the_executors_own_cancel_is_awaited_and_what_it_gives_is_kept(db):
    manager, running = await begin(db, task("a", executor="tells"))
    answer = await manager.cancel_task("a")
    await running
    assert Waits.seen == ["cancel called"]
    assert answer["token_usage"] == {"total_tokens": 5}
    assert answer["result"]["partial_result"] == [1, 2]


async def test_an_executor_that_was_not_called_yet_is_not_asked_to_cancel(db):
    @register_pre_hook
    async def dawdles(_: Task) -> None:
        Waits.started.set()
        await asyncio.sleep(60)

    manager, running = await begin(db, task("a", executor="tells"))
    answer = await manager.cancel_task("a")
    await running
    assert (answer["status"], Waits.seen) == ("cancelled", [])


async def test_a_task_that_completes_after_the_request_is_cancelled_all_the_same(db):
    manager, running = await begin(db, task("a", executor="finishes"))
    await manager.cancel_task("a")
    await running
    stored = (await db.get(["a"]))["a"]
    assert (stored.status, stored.result) == ("cancelled", {"answer": 42})


async def test_cancel_task_waits_for_the_code_to_end(db):
    manager, running = await begin(db, task("a", inputs={"mode": "stubborn"}))
    await manager.cancel_task("a")
    assert Waits.seen == ["cleaned up"]
    await running


async def test_cancelling_what_has_ended_is_refused_without_an_exception(db):
    manager, running = await begin(db, task("a"))
    await manager.cancel_task("a")
    await running
    answer = await manager.cancel_task("a")
    assert answer["status"] == "failed" and "cancelled" in answer["message"]
    unknown = await manager.cancel_task("nobody")
    assert unknown["status"] == "failed" and "nobody" in unknown["message"]


async def test_a_pending_tree_without_an_owner_is_cancelled_in_the_store(db):
    await TaskCreator(db).create_task_tree_from_array([task("r"), task("a", "r", "r"), task("b", "r")])
    assert (await TaskManager(db).cancel_task("a"))["status"] == "cancelled"
    assert await statuses(db, "r") == {"r": "pending", "a": "cancelled", "b": "pending"}
    await TaskManager(db).cancel_task("r")
    assert set((await statuses(db, "r")).values()) == {"cancelled"}


async def test_a_task_that_waits_for_its_retry_is_cancelled_at_once(db):
    class Fails(BaseTask):
        id = "fails"

        async def execute(self, inputs: dict[str, Any]) -> Any:
            raise OSError("again")

    executor_register(Fails)
    node = await TaskCreator(db).create_task_tree_from_array(
        [task("a", executor="fails", policy={"retry": {"max_attempts": 2, "delay": 60}})]
    )
    running = asyncio.create_task(TaskManager(db).distribute_task_tree(node))
    while not (await db.get(["a"]))["a"].not_before:
        await asyncio.sleep(0)
    await TaskManager(db).cancel_task("a")
    await running
    get_registry().unregister("fails")
    stored = (await db.get(["a"]))["a"]
    assert (stored.status, stored.not_before) == ("cancelled", None)


async def test_cancelling_the_caller_cancels_the_tree_and_waits_for_its_code(db):
    _, running = await begin(db, task("a", inputs={"mode": "stubborn"}))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert Waits.seen == ["cleaned up"]
    assert await statuses(db, "a") == {"a": "cancelled"}
    assert (await db.events("a"))[-1].type == "tree_cancelled"


async def test_code_that_will_not_end_is_answered_with_cancelling(db, monkeypatch):
    monkeypatch.setenv("APFLOW_CANCEL_GRACE", "0.01")
    monkeypatch.setenv("APFLOW_CANCEL_WAIT", "0.01")
    reset_settings()
    node = await TaskCreator(db).create_task_tree_from_array([task("a", inputs={"mode": "stubborn"})])
    manager = TaskManager(db)
    running = asyncio.create_task(manager.distribute_task_tree(node))
    await Waits.started.wait()
    answer = await manager.cancel_task("a")
    assert answer["status"] == "cancelling"
    await running
    monkeypatch.undo()
    reset_settings()
    assert await statuses(db, "a") == {"a": "cancelled"}


async def test_the_tree_hook_receives_the_cancellation(db):
    told: list[str] = []
    register_task_tree_hook("on_tree_cancelled", lambda root, message: told.append(root.id))
    manager, running = await begin(db, task("a"))
    await manager.cancel_task("a")
    await running
    assert told == ["a"]


async def test_a_cancel_that_comes_too_late_says_so_at_once(db):
    class Quick(BaseTask):
        id = "quick"

        async def execute(self, inputs: dict[str, Any]) -> Any:
            return {}

    executor_register(Quick)
    for turns in range(25):
        await TaskCreator(db).create_task_tree_from_array([task(f"q{turns}", executor="quick")])
        manager = TaskManager(db)
        running = asyncio.create_task(
            manager.distribute_task_tree(TaskTreeNode((await db.get([f"q{turns}"]))[f"q{turns}"]))
        )
        while not (active_runs.is_running(db, f"q{turns}") or running.done()):
            await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            answer = await manager.cancel_task(f"q{turns}")
            await asyncio.gather(running, return_exceptions=True)
        final = (await db.get([f"q{turns}"]))[f"q{turns}"].status
        assert answer["status"] == ("cancelled" if final == "cancelled" else "failed")
    get_registry().unregister("quick")


async def test_cancelling_the_caller_tells_the_tree_hook_too(db):
    told: list[str] = []
    register_task_tree_hook("on_tree_cancelled", lambda root, message: told.append(root.id))
    _, running = await begin(db, task("a"))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert told == ["a"]
    assert (await db.get(["a"]))["a"].run_requested_at is None


async def test_what_a_cancelled_executor_gives_needs_no_output_schema(db):
    schemas = {"output_schema": {"type": "object", "required": ["answer"]}}
    manager, running = await begin(db, task("a", executor="tells", schemas=schemas))
    answer = await manager.cancel_task("a")
    await running
    assert answer["result"]["partial_result"] == [1, 2]


async def test_a_reason_is_stored_as_every_store_can(db):
    await TaskCreator(db).create_task_tree_from_array([task("a", executor="tells")])
    await TaskManager(db).cancel_task("a", "be\0cause")
    assert (await db.get(["a"]))["a"].error == "be\ufffdcause"


class CancelledAtTheEnd(MemoryStore):
    """Is asked to cancel just after the end of the run was written."""

    async def write(self, change: Change) -> TransitionResult:
        moved = await super().write(change)
        if any(move.sets.get("run_ended_at") for move in change.moves):
            run = await active_runs.running(self, change.moves[0].root_id)
            assert run is not None
            run.cancel(CancelRequest([run.root_id], None, is_forced=False))
        return moved


async def test_a_cancel_that_meets_the_end_of_the_run_does_not_keep_it_from_ending(once_more):
    db = CancelledAtTheEnd()
    node = await TaskCreator(db).create_task_tree_from_array([task("a", executor="once_more")])
    async with asyncio.timeout(30):
        await TaskManager(db).distribute_task_tree(node)
    assert node["status"] == "completed"


class RunMeanwhile(MemoryStore):
    """Runs a tree to its end just after it was read."""

    node: TaskTreeNode | None = None

    async def tree(self, root_id: str) -> list[Task]:
        tasks = await super().tree(root_id)
        node, self.node = self.node, None
        if node is not None:
            await TaskManager(self).distribute_task_tree(node)
        return tasks


async def test_a_cancel_that_read_the_tree_before_its_run_reports_that_it_has_ended(once_more):
    db = RunMeanwhile()
    db.node = await TaskCreator(db).create_task_tree_from_array([task("a", executor="once_more")])
    answer = await TaskManager(db).cancel_task("a")
    assert (answer["status"], await statuses(db, "a")) == ("failed", {"a": "completed"})


async def test_a_task_that_was_added_after_the_end_is_cancelled_and_the_tree_ends_no_second_time(
    db, once_more
):
    node = await TaskCreator(db).create_task_tree_from_array([task("a", executor="once_more")])
    await TaskManager(db).distribute_task_tree(node)
    await db.add([Task(id="b", name="once_more", root_id="a", parent_id="a")])
    answer = await TaskManager(db).cancel_task("b")
    assert (answer["status"], await statuses(db, "a")) == ("cancelled", {"a": "completed", "b": "cancelled"})
    told = [str(event.type) for event in await db.events("a", after=4)]
    assert told == ["tree_completed", "task_created", "task_cancelled"]


# --- what a dead process left ----------------------------------------------------------------------


async def leave_behind(db: MemoryStore, *tasks: dict[str, Any], **sets: Any) -> None:
    """Store a tree of which a dead process had started task "a"."""
    await TaskCreator(db).create_task_tree_from_array(tasks)
    now = datetime.now(UTC)
    root_id = tasks[0]["id"]
    started = {
        "status": "in_progress",
        "owner": "dead",
        "attempts": 1,
        "started_at": now,
        "executor": "once_more",
    } | sets
    run = {"run_requested_at": now, "run_owner": "dead"}
    if root_id == "a":
        moves = [Transition("a", "a", {"status": "pending"}, started | run)]
    else:
        moves = [
            Transition("a", root_id, {"status": "pending"}, started),
            Transition(root_id, root_id, {}, run),
        ]
    await db.write(Change(moves=moves, is_strict=True))


@pytest.fixture
def once_more():
    class OnceMore(BaseTask):
        id = "once_more"

        async def execute(self, inputs: dict[str, Any]) -> Any:
            return {"attempts": self.attempts}

    executor_register(OnceMore)
    yield
    get_registry().unregister("once_more")


async def test_an_interrupted_task_runs_again_and_it_counts_as_no_attempt(db, once_more):
    await leave_behind(db, task("r", executor="once_more"), task("a", "r", executor="once_more"))
    assert await recover(db) == ["r"]
    stored = (await db.get(["a"]))["a"]
    assert (stored.status, stored.interruptions, stored.attempts) == ("completed", 1, 1)
    assert await recover(db) == []


async def test_an_interrupted_task_of_effect_once_fails_with_outcome_unknown(db, once_more):
    await leave_behind(db, task("a", executor="once_more", policy={"effect": "once"}))
    await recover(db)
    assert (await db.get(["a"]))["a"].result["error_type"] == "Interrupted"


async def test_a_task_whose_process_died_twice_gets_no_third_process(db, once_more):
    await leave_behind(db, task("a", executor="once_more"), interruptions=1)
    await recover(db)
    assert (await db.get(["a"]))["a"].result["error_type"] == "Interrupted"


async def test_a_cancel_that_was_requested_is_carried_out(db, once_more):
    await leave_behind(
        db, task("r", executor="once_more"), task("a", "r", executor="once_more"),
        task("b", "r", "a", executor="once_more"), cancel_requested_at=datetime.now(UTC),
    )  # fmt: skip
    await recover(db)
    assert await statuses(db, "r") == {"r": "completed", "a": "cancelled", "b": "cancelled"}


async def test_a_task_that_waited_for_its_retry_was_not_interrupted(db, once_more):
    await leave_behind(db, task("a", executor="once_more"), not_before=datetime.now(UTC))
    await recover(db)
    stored = (await db.get(["a"]))["a"]
    assert (stored.interruptions, stored.attempts, stored.not_before) == (0, 2, None)


@pytest.mark.parametrize("status", ["in_progress", "pending"])
async def test_a_retry_waits_no_longer_than_its_policy_when_the_clock_was_set_back(db, once_more, status):
    policy = {"retry": {"max_attempts": 3, "delay": 0.05, "jitter": False}}
    an_hour_ahead = datetime.now(UTC) + timedelta(hours=1)
    await leave_behind(db, task("a", executor="once_more", policy=policy), not_before=an_hour_ahead)
    if status == "pending":
        await db.move([Transition("a", "a", {"status": "in_progress"}, {"status": "pending"})])
    async with asyncio.timeout(30):
        await recover(db)
    stored = (await db.get(["a"]))["a"]
    assert (stored.status, stored.attempts, stored.not_before) == ("completed", 2, None)


async def test_a_tree_without_a_requested_run_is_never_resumed(db, once_more):
    await TaskCreator(db).create_task_tree_from_array([task("a", executor="once_more")])
    assert await recover(db) == []
    assert await statuses(db, "a") == {"a": "pending"}


async def test_a_tree_whose_executors_are_missing_is_left_unless_forced(db, once_more):
    await leave_behind(
        db,
        task("r", executor="once_more"),
        task("a", "r", executor="once_more"),
        task("b", "r", executor="nowhere"),
    )
    assert await recover(db) == []
    assert (await statuses(db, "r"))["a"] == "in_progress"
    assert await recover(db, ["r"], force=True) == ["r"]
    assert (await db.get(["b"]))["b"].result["error_type"] == "ExecutorNotFound"


async def test_of_a_run_that_had_ended_only_the_hook_is_called(db, once_more):
    told: list[str] = []
    register_task_tree_hook("on_tree_completed", lambda root, status: told.append(root.id))
    now = datetime.now(UTC)
    await leave_behind(db, task("a", executor="once_more"))
    await db.write(
        Change(
            moves=[
                Transition("a", "a", {"status": "in_progress"}, {"status": "completed", "run_ended_at": now})
            ]
        )
    )
    assert await recover(db) == ["a"]
    assert told == ["a"]
    assert (await db.get(["a"]))["a"].run_requested_at is None
    assert await recover(db) == []


async def test_any_process_can_cancel_a_tree_that_a_dead_process_left(db, once_more):
    await leave_behind(
        db, task("g", executor=GROUP), task("a", "g", executor="once_more"), task("b", "g", "a")
    )
    answer = await TaskManager(db).cancel_task("g")
    assert answer["status"] == "cancelled"
    assert set((await statuses(db, "g")).values()) == {"cancelled"}
    assert (await db.events("g"))[-1].type == "tree_cancelled"
    root = (await db.get(["g"]))["g"]
    assert root.run_requested_at is None and root.run_ended_at is not None


async def test_running_a_tree_that_a_dead_process_left_takes_it_over(db, once_more):
    await leave_behind(db, task("a", executor="once_more"))
    node_task = (await db.get(["a"]))["a"]
    result = await TaskManager(db).distribute_task_tree(TaskTreeNode(node_task))
    assert result["status"] == "completed"


def test_a_run_whose_event_loop_ends_is_resumed_on_the_next_one(db, once_more):
    class Slow(BaseTask):
        id = "slow"
        quick = False

        async def execute(self, inputs: dict[str, Any]) -> Any:
            if not Slow.quick:
                await asyncio.sleep(60)

    executor_register(Slow)

    async def abandon() -> None:
        node = await TaskCreator(db).create_task_tree_from_array([task("a", executor="slow")])
        from apflow.core.engine.driver import Driver
        from apflow.core.planning.run_start import has_unended_run

        driver = Driver(db)
        driver_task = asyncio.create_task(driver.run(node.task.id))
        while not has_unended_run((await db.get(["a"]))["a"]):
            await asyncio.sleep(0)
        del driver_task

    asyncio.run(abandon())
    Slow.quick = True
    asyncio.run(recover(db))
    get_registry().unregister("slow")
    assert asyncio.run(statuses(db, "a"))["a"] in ("completed", "cancelled")
