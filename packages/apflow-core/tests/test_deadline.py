"""The deadline of a tree: what it ends, what it leaves to clean up, and that it holds in the next process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from apflow.core import (
    BaseTask,
    MemoryStore,
    TaskCreator,
    TaskExecutor,
    executor_register,
    get_registry,
)
from apflow.core.authoring.repository import TaskRepository
from apflow.core.engine.recovery import recover
from apflow.core.errors import InvalidInputError, TreeInvalidError
from apflow.core.model.task import Task
from apflow.core.planning.explain import explain
from apflow.core.store.base import Change, TaskQuery, TaskStore, Transition
from apflow.testing.trees import Trees

HOUR = 3600.0


class Recorded(BaseTask):
    """Records its calls."""

    id = "recorded"
    calls: list[str] = []

    async def execute(self, inputs: dict[str, Any]) -> Any:
        assert self.stored_task is not None
        Recorded.calls.append(self.stored_task.key)


@pytest.fixture(autouse=True, scope="module")
def recorded() -> Iterator[None]:
    executor_register(Recorded, override=True)
    yield
    get_registry().unregister(Recorded.id)


def entry(name: str, *needs: Any, parent: str = "root", **more: Any) -> dict[str, Any]:
    return {
        "name": name, "parent_id": parent, "dependencies": list(needs), "schemas": {"method": "work"},
    } | more  # fmt: skip


def tree(*entries: dict[str, Any], **policy: Any) -> list[dict[str, Any]]:
    return [{"name": "root", "policy": policy}, *entries]


def ends(tasks: Any) -> dict[str, tuple[str, str | None]]:
    """Return the status of each task and, of a failed one, its error type."""
    return {task.key: (str(task.status), (task.result or {}).get("error_type")) for task in tasks}


LATE = ("failed", "DeadlineExceeded")


def test_a_deadline_fails_what_has_not_ended_and_clean_up_still_runs(trees: Trees):
    trees.stub("work", result={})
    trees.stub("work", takes=10 * HOUR, for_task="long")
    trees.stub("work", failure=ConnectionError, for_task="retried")
    run = trees.run(
        tree(
            entry("done"),
            entry("long", "done"),
            entry("retried", policy={"retry": {"max_attempts": 9, "delay": 2 * HOUR, "max_delay": 2 * HOUR}}),
            entry("after", "long"),
            entry("alarm", "after", trigger="on_failure"),
            entry("clean up", "long", trigger="always"),
            entry("after clean up", "clean up"),
            deadline=HOUR,
        )
    )
    assert ends(run.tasks) == {
        "root": ("failed", "ChildFailed"),
        "done": ("completed", None),
        "long": LATE,
        "retried": LATE,
        "after": LATE,
        "alarm": ("completed", None),
        "clean up": ("completed", None),
        "after clean up": LATE,
    }
    assert run.status == "failed"
    assert HOUR <= run.seconds < 1.5 * HOUR
    assert "The tree had to end by " in (run.error or "")
    assert [each.task for each in trees.calls] == ["done", "retried", "long", "alarm", "clean up"]


def test_clean_up_that_takes_too_long_fails_too(trees: Trees):
    trees.stub("work", takes=10 * HOUR)
    run = trees.run(
        tree(
            entry("long"),
            entry("clean up", "long", trigger="always"),
            entry("then", "clean up", trigger="always"),
            deadline=HOUR,
            cleanup_timeout=60,
        )
    )
    assert ends(run.tasks) == {
        "root": ("failed", "ChildFailed"),
        "long": LATE,
        "clean up": LATE,
        "then": LATE,
    }
    assert HOUR + 60 <= run.seconds < 1.5 * HOUR
    assert "clean-up may take 60 s" in (run["clean up"].error or "")
    assert [each.task for each in trees.calls] == ["long", "clean up"]


def test_what_is_in_a_group_that_cleans_up_runs_after_the_deadline(trees: Trees):
    trees.stub("work", result={})
    trees.stub("work", takes=10 * HOUR, for_task="long")
    group = {"name": "clean up", "parent_id": "root", "dependencies": ["long"], "trigger": "always"}
    members = entry("first", parent="clean up"), entry("second", "first", parent="clean up")
    run = trees.run(tree(entry("long"), group, *members, deadline=HOUR))
    assert ends(run.tasks)["long"] == LATE
    assert [str(run[name].status) for name in ("clean up", "first", "second")] == ["completed"] * 3


async def test_a_tree_that_ends_in_time_is_not_affected_and_leaves_no_timer():
    tasks = tree(entry("a", schemas={"method": "recorded"}), deadline=HOUR)
    outcome = await TaskExecutor().execute_tasks(tasks, db_session=MemoryStore())
    assert outcome["status"] == "completed"
    timers = getattr(asyncio.get_running_loop(), "_scheduled")  # noqa: B009
    assert [each for each in timers if "Mailbox" in repr(each) and not each.cancelled()] == []


def test_what_code_returns_while_it_is_ended_is_kept(trees: Trees):
    async def work(inputs: dict[str, Any]) -> Any:
        try:
            await asyncio.sleep(10 * HOUR)
        except asyncio.CancelledError:
            return {"rows": 7}

    trees.stub("work", function=work)
    run = trees.run(tree(entry("a"), deadline=HOUR))
    assert run["a"].result["error_type"] == "DeadlineExceeded"
    assert run["a"].result["rows"] == 7


def test_the_deadline_counts_from_the_request_of_each_run(trees: Trees):
    trees.stub("work", takes=10 * HOUR)
    first = trees.run(tree(entry("a"), deadline=HOUR))
    trees.stub("work", takes=HOUR / 2)
    again = trees.run_again(first)
    assert [first.status, again.status] == ["failed", "completed"]


def test_a_time_is_a_deadline_too(trees: Trees):
    trees.stub("work", takes=10 * HOUR)
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    late = trees.run(tree(entry("a"), deadline=soon))
    passed = trees.run(tree(entry("a"), deadline="2020-02-03T04:05:06+01:00"))
    assert ends(late.tasks)["a"] == ends(passed.tasks)["a"] == LATE
    assert late.seconds > HOUR / 2
    assert passed["a"].attempts == 0
    assert "2020-02-03 03:05:06 UTC" in (passed["a"].error or "")


async def all_tasks(db: TaskStore) -> list[Task]:
    (root,) = [each for each in await db.find(TaskQuery()) if each.parent_id is None]
    return await db.tree(root.id)


async def leave_behind(db: TaskStore, requested_at: datetime) -> None:
    """Store a tree whose run a dead process has left: one task had started."""
    work = {"schemas": {"method": "recorded"}}
    await TaskCreator(db).create_task_tree_from_array(
        tree(
            entry("started") | work,
            entry("next", "started") | work,
            entry("clean up", "next", trigger="always") | work,
            deadline=HOUR,
        )
    )  # fmt: skip
    root, started, *_ = await all_tasks(db)
    run = {"run_requested_at": requested_at, "run_owner": "dead"}
    at_work = {
        "status": "in_progress",
        "owner": "dead",
        "attempts": 1,
        "started_at": requested_at,
        "executor": "recorded",
    }
    moves = [
        Transition(root.id, root.id, {}, run),
        Transition(started.id, root.id, {"status": "pending"}, at_work),
    ]
    await db.write(Change(moves=moves, is_strict=True))


async def test_the_deadline_holds_in_the_process_that_resumes_the_run(db: TaskStore):
    Recorded.calls.clear()
    await leave_behind(db, datetime.now(UTC) - timedelta(seconds=HOUR + 1))
    await recover(db)
    assert ends(await all_tasks(db)) == {
        "root": ("failed", "ChildFailed"), "started": LATE, "next": LATE, "clean up": ("completed", None),
    }  # fmt: skip
    assert Recorded.calls == ["clean up"]


async def test_a_run_that_is_resumed_in_time_goes_on(db: TaskStore):
    Recorded.calls.clear()
    await leave_behind(db, datetime.now(UTC) - timedelta(seconds=1))
    await recover(db)
    assert Recorded.calls == ["started", "next", "clean up"]


async def test_a_run_that_is_resumed_after_the_clean_up_calls_nothing(db: TaskStore):
    Recorded.calls.clear()
    await leave_behind(db, datetime.now(UTC) - timedelta(days=1))
    await recover(db)
    assert {end for key, end in ends(await all_tasks(db)).items() if key != "root"} == {LATE}
    assert Recorded.calls == []


async def test_why_says_when_the_tree_must_end():
    db = MemoryStore()
    node = await TaskCreator(db).create_task_tree_from_array(tree(entry("a"), deadline=HOUR))
    tasks = await db.tree(node.task.id)

    def said() -> list[str]:
        return explain(tasks, tasks[1].id, is_driven=True, is_known=lambda _: True).reasons

    assert not any("has not ended by" in each for each in said())
    tasks[0].run_requested_at = datetime(2030, 1, 1, 22, tzinfo=UTC)
    assert "It fails if its tree has not ended by 2030-01-01 23:00:00 UTC." in said()


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({"deadline": 0}, "policy.deadline must be a number of seconds above 0"),
        ({"deadline": True}, "policy.deadline must be"),
        ({"deadline": "tomorrow"}, "or a time with its offset from UTC"),
        ({"deadline": "2030-01-01T00:00:00"}, "or a time with its offset from UTC"),
        ({"deadline": "9999-12-31T00:00:00Z"}, "policy.deadline must be"),
        ({"deadline": 5, "cleanup_timeout": -1}, "policy.cleanup_timeout must be"),
        ({"cleanup_timeout": 5}, "Give a deadline, too."),
    ],
)
async def test_a_bad_deadline_is_refused(policy: dict[str, Any], said: str):
    with pytest.raises(TreeInvalidError, match=said):
        await TaskCreator(MemoryStore()).create_task_tree_from_array(tree(**policy))


async def test_only_a_root_has_a_deadline():
    db = MemoryStore()
    creator, repository = TaskCreator(db), TaskRepository(db)
    with pytest.raises(TreeInvalidError, match="give it to the root"):
        await creator.create_task_tree_from_array(tree(entry("a", policy={"deadline": 5})))
    node = await creator.create_task_tree_from_array(tree(entry("a")))
    child = node.children[0].task
    with pytest.raises(InvalidInputError, match="give it to the root"):
        await repository.update_task_policy(child.id, {"deadline": 5})
    with pytest.raises(InvalidInputError, match="give it to the root"):
        await repository.create_task(name="b", parent_id=node.task.id, policy={"deadline": 5})
    changed = await repository.update_task_policy(node.task.id, {"deadline": "2030-01-01T01:00:00+01:00"})
    assert changed.policy == {"deadline": "2030-01-01T00:00:00+00:00"}
